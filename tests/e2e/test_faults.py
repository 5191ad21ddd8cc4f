"""What happens to callers when processes die, hang, stop or get a bad file, on real engines."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference_mesh.client import MeshClient
from inference_mesh.errors import MeshError, StreamBrokenError
from inference_mesh.v1 import inference_pb2, payload_pb2
from tests.support.processes import (
    IRIS,
    TINY_CHAT,
    MeshProcess,
    ProcessGroup,
    http_status_of,
    http_text_of,
    metric_sum,
    wait_until,
    write_models_file,
)

pytestmark = pytest.mark.faults

NEVER_ENDING = {"0": -100, "1": -100, "2": -100}
"""Keeps tiny-chat from its control tokens, so that an answer is as long as it is asked to be."""

LONG = {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 1500, "logit_bias": NEVER_ENDING}
UNSEEDED = {key: value for key, value in LONG.items() if key != "temperature"}
"""Drawn at random, so that no other replica can go on where one broke."""

SHORT = {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 60, "logit_bias": NEVER_ENDING}
SETOSA = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}


def _chat_workers(group: ProcessGroup, count: int) -> list[MeshProcess]:
    workers = [group.worker(TINY_CHAT, name="tiny-chat", runtime="llama") for _ in range(count)]
    for worker in workers:
        worker.wait_until_ready()
    return workers


def _gateway(group: ProcessGroup, folder: Path, workers: dict[str, list[MeshProcess]]) -> MeshProcess:
    gateway = group.gateway(write_models_file(folder / "models.yaml", workers))
    gateway.wait_until_ready()
    return gateway


async def _stream(client: MeshClient, payload: dict[str, Any]) -> tuple[int, payload_pb2.FinishReason]:
    """Tokens and finish reason of one stream; raises as the stream does."""
    count, reason = 0, payload_pb2.FINISH_REASON_UNSPECIFIED
    async for piece in client.stream("tiny-chat", payload):
        count += len(piece.output.generate.tokens)
        reason = piece.output.generate.finish_reason or reason
    return count, reason


async def _first_piece(
    client: MeshClient, payload: dict[str, Any]
) -> tuple[Any, inference_pb2.InferStreamResponse]:
    stream = client.stream("tiny-chat", payload)
    return stream, await anext(stream)


async def test_kill_9_of_a_replica_under_load_fails_no_unary_call_and_ends_streams_typed(
    group: ProcessGroup, tmp_path: Path
) -> None:
    workers = _chat_workers(group, 2)
    gateway = _gateway(group, tmp_path, {"tiny-chat": workers})
    async with MeshClient(gateway.grpc_target) as client:
        streams = [await _first_piece(client, UNSEEDED) for _ in range(6)]
        reading = [asyncio.ensure_future(_drain(stream)) for stream, _ in streams]
        unary = [asyncio.ensure_future(client.infer("tiny-chat", SHORT)) for _ in range(50)]
        await asyncio.wait(unary, return_when=asyncio.FIRST_COMPLETED)
        workers[0].signal(signal.SIGKILL)
        killed_at = time.monotonic()
        answers = await asyncio.gather(*unary, return_exceptions=True)
        ends = await asyncio.gather(*reading)
    assert [answer for answer in answers if isinstance(answer, BaseException)] == []
    broken = [(error, ended_at - killed_at) for error, ended_at in ends if error is not None]
    assert broken, "no stream ran on the killed replica"
    assert all(isinstance(error, StreamBrokenError) for error, _ in broken), broken
    assert max(after_s for _, after_s in broken) < 0.25


async def _drain(stream: Any) -> tuple[MeshError | None, float]:
    """How a stream ended, and when. A whole one must have its usage."""
    last: inference_pb2.InferStreamResponse | None = None
    try:
        async for piece in stream:
            last = piece
    except MeshError as error:
        return error, time.monotonic()
    assert last is not None
    assert last.HasField("usage")
    return None, time.monotonic()


@pytest.mark.parametrize("whom", ["worker", "gateway"])
async def test_sigterm_lets_a_running_stream_finish_and_exits_0(
    group: ProcessGroup, tmp_path: Path, whom: str
) -> None:
    workers = _chat_workers(group, 1)
    gateway = _gateway(group, tmp_path, {"tiny-chat": workers})
    stopped = workers[0] if whom == "worker" else gateway
    async with MeshClient(gateway.grpc_target) as client:
        stream, _ = await _first_piece(client, LONG)
        stopped.signal(signal.SIGTERM)
        wait_until(lambda: http_status_of(f"{stopped.url}/readyz") != 200, "readiness is off", 1.0)
        pieces = [piece async for piece in stream]
    assert pieces[-1].usage.completion_tokens == 1500
    assert pieces[-1].output.generate.finish_reason == payload_pb2.FINISH_REASON_LENGTH
    assert await asyncio.to_thread(stopped.popen.wait, 20) == 0


async def test_a_stopped_worker_is_noticed_within_5_s_and_its_replica_answers(
    group: ProcessGroup, tmp_path: Path
) -> None:
    workers = _chat_workers(group, 2)
    gateway = _gateway(group, tmp_path, {"tiny-chat": workers})

    def ready() -> float:
        return metric_sum(
            http_text_of(f"{gateway.url}/metrics"), "mesh_gateway_endpoint_ready", model="tiny-chat"
        )

    await asyncio.to_thread(wait_until, lambda: ready() == 2, "both replicas are ready")
    workers[0].signal(signal.SIGSTOP)
    noticed_s = await asyncio.to_thread(wait_until, lambda: ready() == 1, "the hung replica is out", 5.0)
    async with MeshClient(gateway.grpc_target) as client:
        answers = await asyncio.gather(*(client.infer("tiny-chat", SHORT, timeout_s=10) for _ in range(8)))
    assert {answer.usage.completion_tokens for answer in answers} == {60}
    workers[0].signal(signal.SIGCONT)
    await asyncio.to_thread(wait_until, lambda: ready() == 2, "the replica is back", 10.0)
    assert noticed_s < 5.0


async def test_a_broken_registry_under_load_fails_no_call_and_a_metric_says_so(
    group: ProcessGroup, tmp_path: Path
) -> None:
    worker = group.worker(IRIS, name="iris", runtime="onnx")
    worker.wait_until_ready()
    gateway = _gateway(group, tmp_path, {"iris": [worker]})
    models_file = tmp_path / "models.yaml"
    good = models_file.read_text()
    failures: list[MeshError] = []
    calls = 0
    stop = asyncio.Event()

    def reload_state() -> float:
        page = http_text_of(f"{gateway.url}/metrics")
        return metric_sum(page, "mesh_gateway_registry_last_reload_successful")

    async def load(client: MeshClient) -> None:
        nonlocal calls
        while not stop.is_set():
            try:
                await client.infer("iris", SETOSA)
            except MeshError as error:
                failures.append(error)
            calls += 1

    async with MeshClient(gateway.grpc_target) as client, asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(load(client))
        for broken in ("models: [", "- name: iris\n", "", "- name: iris\n  servce: x\n", "\x00"):
            models_file.write_text(broken)
            await asyncio.to_thread(wait_until, lambda: reload_state() == 0, f"{broken!r} is refused", 3.0)
            models_file.write_text(good)
            live_s = await asyncio.to_thread(
                wait_until, lambda: reload_state() == 1, "the good one is live", 3.0
            )
            assert live_s < 2.0
        stop.set()
    assert calls > 50
    assert failures == []


@pytest.mark.parametrize("way_in", ["grpc", "rest"])
async def test_a_client_that_leaves_frees_the_engines_slot_within_200_ms(
    group: ProcessGroup, tmp_path: Path, way_in: str
) -> None:
    worker = _chat_workers(group, 1)[0]
    gateway = _gateway(group, tmp_path, {"tiny-chat": [worker]})
    bridge = group.bridge(gateway)
    bridge.wait_until_ready()

    def in_flight() -> float:
        return metric_sum(http_text_of(f"{worker.url}/metrics"), "mesh_worker_in_flight")

    if way_in == "grpc":
        async with MeshClient(gateway.grpc_target) as client:
            stream, _ = await _first_piece(client, LONG)
            assert in_flight() == 1
            await stream.aclose()
            freed_s = await asyncio.to_thread(wait_until, lambda: in_flight() == 0, "the slot is free", 1.0)
    else:
        body = {"model": "tiny-chat", "payload": LONG, "stream": True}
        async with httpx.AsyncClient() as http:
            async with http.stream("POST", f"{bridge.url}/api/infer", json=body) as answer:
                await anext(answer.aiter_lines())
                assert in_flight() == 1
            freed_s = await asyncio.to_thread(wait_until, lambda: in_flight() == 0, "the slot is free", 1.0)
    assert freed_s < 0.2
    made = metric_sum(http_text_of(f"{worker.url}/metrics"), "mesh_worker_tokens_total", kind="completion")
    assert made < 1500


@pytest.mark.parametrize(("source", "runtime"), [(TINY_CHAT, "llama"), (IRIS / "model.onnx", "onnx")])
def test_a_truncated_model_does_not_become_ready_and_the_others_serve(
    group: ProcessGroup, tmp_path: Path, source: Path, runtime: str
) -> None:
    damaged = tmp_path / source.name
    data = source.read_bytes()
    damaged.write_bytes(data[: len(data) * 2 // 3])
    bad = group.worker(damaged, name="bad", runtime=runtime)
    good = group.worker(IRIS, name="iris", runtime="onnx")
    good.wait_until_ready()
    bad.wait_for_ports()
    gateway = group.gateway(write_models_file(tmp_path / "models.yaml", {"bad": [bad], "iris": [good]}))
    gateway.wait_for_ports()
    bridge = group.bridge(gateway)
    bridge.wait_for_ports()

    def answers(model: str, payload: object) -> int:
        return httpx.post(
            f"{bridge.url}/api/infer", json={"model": model, "payload": payload}, timeout=10
        ).status_code

    wait_until(lambda: answers("iris", SETOSA) == 200, "the good model answers")
    assert answers("bad", SETOSA if runtime == "onnx" else "hello") in {400, 503}
    assert http_status_of(f"{bad.url}/readyz") == 503
    assert bad.popen.poll() is None
