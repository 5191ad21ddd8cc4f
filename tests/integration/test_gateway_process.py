"""The gateway as a real process: start, pages, access log, stop by signal."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference_mesh.channels import open_channel
from inference_mesh.v1 import inference_pb2_grpc
from tests.support.gateways import entry, facts, prompt, running_worker, write_models
from tests.support.processes import (
    REPOSITORY,
    ProcessGroup,
    http_status_of,
    http_text_of,
    metric_sum,
    process_group,
)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[ProcessGroup]:
    with process_group(tmp_path) as group:
        yield group


async def test_sigterm_finishes_running_calls_and_refuses_new_ones(
    tmp_path: Path, processes: ProcessGroup
) -> None:
    async with running_worker("one") as one:
        write_models(tmp_path / "models.yaml", [entry("one", one)])
        gateway = processes.gateway(tmp_path / "models.yaml")
        await asyncio.to_thread(gateway.wait_until_ready)
        async with open_channel(gateway.grpc_target) as channel:
            stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)
            await stub.Infer(prompt("one"))
            running = asyncio.ensure_future(_answer(stub))
            async with asyncio.timeout(5):
                while one.running == 0:
                    await asyncio.sleep(0.01)
            gateway.signal(signal.SIGTERM)
            assert facts(await running)["worker"] == "one"
        assert await asyncio.to_thread(gateway.popen.wait, 10) == 0
        log = gateway.log_text()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    calls = [line for line in lines if line["event"] == "call"]
    assert [call["code"] for call in calls] == ["OK", "OK"]
    assert {"request_id", "trace_id", "key", "endpoint", "attempts"} <= calls[0].keys()
    assert "delay=1" not in log


async def test_the_pages_of_operations_tell_models_and_metrics(
    tmp_path: Path, processes: ProcessGroup
) -> None:
    async with running_worker("one") as one:
        write_models(tmp_path / "models.yaml", [entry("one", one)])
        gateway = processes.gateway(tmp_path / "models.yaml")
        await asyncio.to_thread(gateway.wait_until_ready)
        async with open_channel(gateway.grpc_target) as channel:
            await inference_pb2_grpc.InferenceServiceStub(channel).Infer(prompt("one"))
        assert await asyncio.to_thread(http_status_of, f"{gateway.url}/healthz") == 200
        ready = json.loads(await asyncio.to_thread(http_text_of, f"{gateway.url}/readyz"))
        metrics = await asyncio.to_thread(http_text_of, f"{gateway.url}/metrics")
    assert ready["detail"]["model one"] == "1 of 1 replicas ready"
    assert metric_sum(metrics, "mesh_gateway_requests_total", model="one", code="OK") == 1
    assert metric_sum(metrics, "mesh_gateway_endpoint_ready", model="one") == 1


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--host", "0.0.0.0"), "loopback"),
        (("--auth", "open", "--host", "0.0.0.0", "--keys", "k.yaml"), "loopback"),
        (("--grpc-port", "70000"), "MESH_GATEWAY_GRPC_PORT"),
        (("--auth", "maybe"), "required"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_a_sentence(flags: tuple[str, ...], named: str) -> None:
    command = [sys.executable, "-m", "gateway", *flags]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=30, check=False)
    assert ended.returncode == 2
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr


async def _answer(stub: Any) -> Any:
    return await stub.Infer(prompt("one", "delay=1"), timeout=20)
