"""The main job on real models: an embedding, a chat answer, a classification, both ways in."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from inference_mesh.client import MeshClient
from tests.e2e.conftest import RunningMesh
from tests.support.canaries import MARK, marked
from tests.support.processes import metric_sum, wait_until

SETOSA = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}
HELLO = {
    "messages": [{"role": "user", "content": "Who are you?"}],
    "temperature": 0,
    "max_tokens": 40,
    "stop": [MARK],
}
SENTENCES = ["That is a happy person", "That is a happy dog", "Today is a sunny day", marked("A day")]


def _infer(mesh: RunningMesh, body: dict[str, object]) -> dict[str, object]:
    answer = httpx.post(f"{mesh.bridge.url}/api/infer", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    document: dict[str, object] = answer.json()
    return document


def _stream(mesh: RunningMesh, body: dict[str, object]) -> list[Any]:
    """The pieces of a streamed answer."""
    with httpx.stream("POST", f"{mesh.bridge.url}/api/infer", json={**body, "stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


async def test_an_embedding_is_the_same_by_rest_and_by_grpc(mesh: RunningMesh) -> None:
    by_rest = _infer(mesh, {"model": "minilm", "payload": {"texts": SENTENCES}})
    async with MeshClient(mesh.gateway.grpc_target) as client:
        by_grpc = await client.infer("minilm", {"texts": SENTENCES})
    rows = np.frombuffer(by_grpc.output.embed.values, dtype="<f4").reshape(4, 384)
    output = by_rest["output"]
    assert isinstance(output, dict)
    np.testing.assert_allclose(np.array(output["embeddings"]), rows, atol=1e-5)
    assert rows[0] @ rows[1] == pytest.approx(0.6946, abs=1e-3)
    assert rows[0] @ rows[2] == pytest.approx(0.2569, abs=1e-3)


async def test_a_chat_answer_is_the_same_whole_streamed_by_rest_and_by_grpc(mesh: RunningMesh) -> None:
    whole = _infer(mesh, {"model": "tiny-chat", "payload": HELLO})["output"]
    assert isinstance(whole, dict)
    pieces = _stream(mesh, {"model": "tiny-chat", "payload": HELLO})
    async with MeshClient(mesh.gateway.grpc_target) as client:
        by_grpc = "".join([piece.output.generate.text async for piece in client.stream("tiny-chat", HELLO)])
    assert "".join(piece.get("output", {}).get("text", "") for piece in pieces) == whole["text"] == by_grpc
    assert whole["text"].startswith("I am")
    assert whole["finish_reason"] == "stop"
    assert pieces[-1]["usage"]["completion_tokens"] > 0


def test_a_long_answer_comes_in_pieces(mesh: RunningMesh) -> None:
    # Tokens that wait for a reader go together, so that a short answer may be one piece.
    endless = {**HELLO, "max_tokens": 500, "logit_bias": {"0": -100, "2": -100}, "stop": []}
    pieces = _stream(mesh, {"model": "tiny-chat", "payload": endless})
    assert pieces[-1]["usage"]["completion_tokens"] == 500
    assert len(pieces) >= 2


async def test_a_classification_is_the_same_by_rest_and_by_grpc(mesh: RunningMesh) -> None:
    by_rest = _infer(mesh, {"model": "iris", "payload": SETOSA})["output"]
    assert isinstance(by_rest, dict)
    outputs = {output["name"]: output["data"] for output in by_rest["outputs"]}
    assert outputs["label"] == [0]
    async with MeshClient(mesh.gateway.grpc_target) as client:
        by_grpc = await client.infer("iris", SETOSA)
    probabilities = next(one for one in by_grpc.output.tensors.tensors if one.name == "probabilities")
    np.testing.assert_allclose(np.frombuffer(probabilities.data, "<f4"), outputs["probabilities"], rtol=1e-6)


async def test_every_model_is_listed_with_its_task_by_both_ways_in(mesh: RunningMesh) -> None:
    by_rest = {
        model["name"]: model["task"] for model in httpx.get(f"{mesh.bridge.url}/api/models").json()["models"]
    }
    assert by_rest == {"iris": "tensors", "minilm": "embed", "tiny-chat": "generate"}
    async with MeshClient(mesh.gateway.grpc_target) as client:
        assert [model.name for model in await client.models()] == sorted(by_rest)


def test_one_request_is_one_trace_and_one_id_in_every_log(mesh: RunningMesh) -> None:
    request_id = "trace-me-1"
    answer = httpx.post(
        f"{mesh.bridge.url}/api/infer",
        json={"model": "iris", "payload": SETOSA},
        headers={"x-request-id": request_id},
    )
    assert answer.headers["x-request-id"] == request_id
    traces = set()
    for process in (mesh.bridge, mesh.gateway, mesh.workers["iris"]):
        wait_until(lambda one=process: request_id in one.log_text(), f"{process.name} logs the request")
        lines = [json.loads(line) for line in process.log_text().splitlines() if request_id in line]
        traces |= {line["trace_id"] for line in lines}
    assert len(traces) == 1


def test_the_worker_answers_plain_http_too(mesh: RunningMesh) -> None:
    answer = httpx.post(f"{mesh.workers['iris'].url}/infer", json=SETOSA)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["name"] in {"label", "probabilities"}


def test_every_process_has_health_and_metrics(mesh: RunningMesh) -> None:
    for process in (mesh.bridge, mesh.gateway, *mesh.workers.values()):
        assert httpx.get(f"{process.url}/healthz").status_code == 200
        assert httpx.get(f"{process.url}/readyz").status_code == 200
        assert "mesh_" in httpx.get(f"{process.url}/metrics").text


def test_times_are_measured_finer_than_the_milliseconds_of_the_event_loop(mesh: RunningMesh) -> None:
    timings = [_infer(mesh, {"model": "iris", "payload": SETOSA})["timing"] for _ in range(3)]
    compute_s = [timing["compute_s"] for timing in timings if isinstance(timing, dict)]
    assert min(compute_s) > 0
    for process, name in (
        (mesh.gateway, "mesh_gateway_request_seconds_sum"),
        (mesh.bridge, "mesh_bridge_request_seconds_sum"),
    ):
        page = httpx.get(f"{process.url}/metrics").text
        milliseconds = metric_sum(page, name) * 1000
        assert abs(milliseconds - round(milliseconds)) > 1e-6, (name, milliseconds)
