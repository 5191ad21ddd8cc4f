from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from grpc_health.v1 import health_pb2

from inference_mesh.v1 import inference_pb2
from tests.fakes.fake_gateway import FakeGateway, last_piece, never, piece
from tests.support.bridge import RunningBridge, running_bridge

CHAT = {"model": "chat", "payload": {"prompt": "Once"}}


@pytest.fixture
async def bridge() -> AsyncIterator[RunningBridge]:
    async with running_bridge() as running:
        yield running


async def test_a_path_or_method_that_does_not_exist_is_answered_in_the_one_form(
    bridge: RunningBridge,
) -> None:
    missing = await bridge.http.get("/api/nothing")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "NOT_FOUND")
    wrong = await bridge.http.get("/api/infer")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json()["error"]["request_id"] == wrong.headers["x-request-id"]


async def test_readyz_says_what_the_gateway_says(bridge: RunningBridge) -> None:
    ready = await bridge.http.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "detail": {"gateway": "SERVING"}})
    await bridge.gateway.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert (await bridge.http.get("/readyz")).json()["detail"] == {"gateway": "NOT_SERVING"}
    await bridge.gateway.stop()
    gone = await bridge.http.get("/readyz")
    assert (gone.status_code, gone.json()["detail"]) == (503, {"gateway": "UNREACHABLE"})
    assert (await bridge.http.get("/healthz")).status_code == 200


async def test_readyz_is_503_as_soon_as_the_bridge_drains(bridge: RunningBridge) -> None:
    await bridge.service.drain()
    assert (await bridge.http.get("/readyz")).status_code == 503
    assert (await bridge.infer(CHAT)).status_code == 200


async def test_metrics_count_by_route_and_never_by_path(bridge: RunningBridge) -> None:
    await bridge.infer(CHAT)
    await bridge.infer(CHAT | {"stream": True})
    await bridge.http.get("/api/models/chat")
    await bridge.http.get("/secret-path")
    await bridge.http.request("REPORT", "/api/infer")
    text = (await bridge.http.get("/metrics")).text
    assert 'mesh_bridge_requests_total{code="200",method="POST",route="/api/infer"} 2.0' in text
    assert 'mesh_bridge_requests_total{code="200",method="GET",route="/api/models/{name}"} 1.0' in text
    assert 'mesh_bridge_requests_total{code="404",method="GET",route="unmatched"} 1.0' in text
    assert 'method="other"' in text
    assert 'mesh_bridge_first_event_seconds_count{route="/api/infer"} 1.0' in text
    assert "secret-path" not in text


async def test_the_openapi_document_describes_every_route(bridge: RunningBridge) -> None:
    document = (await bridge.http.get("/openapi.json")).json()
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == {
        "/api/infer",
        "/api/models",
        "/api/models/{name}",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/rerank",
        "/v1/responses",
        "/v1/messages",
        "/v1/models",
        "/v1/models/{name}",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/{model}",
        "/v2/models/{model}/ready",
        "/v2/models/{model}/infer",
        "/v2/models/{model}/generate",
        "/v2/models/{model}/generate_stream",
        "/v2/models/{model}/config",
        "/v2/models/{model}/stats",
        "/v2/models/stats",
        "/v2/repository/index",
        "/v2/repository/models/{model}/load",
        "/v2/repository/models/{model}/unload",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    references = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)))
    for reference in references:
        node: Any = document
        for key in reference.split("/"):
            node = node[key]


async def test_the_docs_page_needs_nothing_from_outside(bridge: RunningBridge) -> None:
    page = await bridge.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert "//" not in re.sub(r"(?m)^\s*//.*$", "", page.text).replace("</", "")


async def test_pages_of_other_origins_are_refused_unless_allowed(bridge: RunningBridge) -> None:
    preflight = {"origin": "http://app.example", "access-control-request-method": "POST"}
    assert (await bridge.http.options("/api/infer", headers=preflight)).status_code == 405
    async with running_bridge(cors_origins="http://app.example") as open_bridge:
        allowed = await open_bridge.http.options("/api/infer", headers=preflight)
        assert allowed.headers["access-control-allow-origin"] == "http://app.example"
        other = await open_bridge.infer(CHAT, origin="http://other.example")
        assert "access-control-allow-origin" not in other.headers


async def test_a_stop_lets_a_running_request_finish(bridge: RunningBridge) -> None:
    gate = asyncio.Event()

    async def script(request: inference_pb2.InferRequest) -> inference_pb2.InferResponse:
        await gate.wait()
        return inference_pb2.InferResponse(model=request.model)

    bridge.gateway.infer_script = script
    async with asyncio.TaskGroup() as group:
        answer = group.create_task(bridge.infer(CHAT))
        await bridge.gateway.arrived.wait()
        stopping = group.create_task(bridge.service.stop(10.0))
        while await _accepts(bridge.service.port):
            await asyncio.sleep(0.01)
        gate.set()
        await stopping
    assert answer.result().status_code == 200


async def test_a_request_that_outlasts_the_grace_is_told_so(bridge: RunningBridge) -> None:
    async def script(_: Any) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        yield piece("first", model="chat")
        await asyncio.Event().wait()

    bridge.gateway.stream_script = script
    bridge.gateway.infer_script = never
    async with asyncio.TaskGroup() as group:
        unary = group.create_task(bridge.infer(CHAT))
        stream = group.create_task(bridge.infer(CHAT | {"stream": True}))
        while bridge.in_flight < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        await bridge.service.stop(0.7)
    assert unary.result().status_code == 503
    assert "event: error" in stream.result().text
    assert "[DONE]" not in stream.result().text


async def test_the_process_serves_finishes_its_stream_on_sigterm_and_exits_0(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def script(_: Any) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        yield piece("first", model="chat")
        await gate.wait()
        yield last_piece("last")

    port_file = tmp_path / "ports.json"
    async with FakeGateway() as gateway:
        gateway.stream_script = script
        process = _start("--gateway", gateway.target, "--port", "0", "--port-file", str(port_file))
        try:
            ports = await _ports(port_file)
            assert ports["pid"] == process.pid
            base = f"http://127.0.0.1:{ports['http']}"
            async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=20) as client:
                assert (await client.get("/readyz")).status_code == 200
                async with client.stream("POST", "/api/infer", json=CHAT | {"stream": True}) as answer:
                    chunks = answer.aiter_text()
                    await anext(chunks)
                    process.send_signal(signal.SIGTERM)
                    while await _accepts(ports["http"]):
                        await asyncio.sleep(0.02)
                    gate.set()
                    assert (await _rest(chunks)).endswith("data: [DONE]\n\n")
            _, errors = await asyncio.to_thread(process.communicate, timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    lines = [json.loads(line) for line in errors.splitlines()]
    assert "Once" not in errors
    assert {"serving", "request", "draining", "stopped"} <= {line["event"] for line in lines}


def test_a_wrong_setting_stops_the_start_with_one_sentence() -> None:
    process = _start("--port", "70000")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert len(errors.splitlines()) == 1
    assert "70000" in errors


def _start(*flags: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}
    command = [sys.executable, "-m", "rest_bridge", *flags]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean)


async def _ports(port_file: Path) -> dict[str, int]:
    async with asyncio.timeout(20):
        while not port_file.exists():
            await asyncio.sleep(0.02)
    return dict(json.loads(port_file.read_text()))


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    return True


async def _rest(chunks: AsyncIterator[str]) -> str:
    return "".join([chunk async for chunk in chunks])
