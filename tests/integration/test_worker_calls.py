"""The one way of a call: what is refused first, what is counted, and who may still come in at a stop."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest

from inference_mesh.error_status import error_from_rpc
from inference_mesh.errors import (
    MeshError,
    ModelNotFoundError,
    ModelNotReadyError,
    PayloadMismatchError,
)
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.oip import open_inference_pb2_grpc
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2
from tests.fakes.echo_engine import EchoEngine
from tests.support.processes import metric_sum
from tests.support.workers import ServedWorker, served_worker
from workers.observer import NullObserver
from workers.onnx.engine import OnnxEngine
from workers.onnx.settings import OnnxSettings

REQUESTS = "mesh_worker_requests_total"


@pytest.fixture
async def engine() -> EchoEngine:
    return EchoEngine()


@pytest.fixture
async def worker(engine: EchoEngine) -> AsyncIterator[ServedWorker]:
    async with served_worker(engine) as served:
        yield served


@pytest.fixture
async def unloaded(tmp_path: Any) -> AsyncIterator[ServedWorker]:
    engine = OnnxEngine(OnnxSettings(path=tmp_path / "absent", name="gone"), NullObserver())
    async with served_worker(engine) as served:
        yield served


def _native(worker: ServedWorker) -> Any:
    return inference_pb2_grpc.InferenceServiceStub(worker.channel)


def _open_inference(worker: ServedWorker) -> Any:
    return open_inference_pb2_grpc.GRPCInferenceServiceStub(worker.channel)


def _request(prompt: str) -> inference_pb2.InferRequest:
    payload = payload_pb2.Payload(generate=payload_pb2.Generate(prompt=prompt))
    return inference_pb2.InferRequest(model="echo", payload=payload)


async def _error_of(call: Any) -> MeshError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value)


async def _metrics(worker: ServedWorker) -> str:
    async with httpx.AsyncClient(base_url=worker.url) as http:
        return (await http.get("/metrics")).text


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_payload_of_another_kind_names_the_kind_that_the_model_takes(
    worker: ServedWorker, engine: EchoEngine
) -> None:
    payload = payload_pb2.Payload(embed=payload_pb2.Embed(texts=["a"]))
    error = await _error_of(_native(worker).Infer(inference_pb2.InferRequest(model="echo", payload=payload)))
    assert type(error) is PayloadMismatchError
    assert "generate" in error.message
    assert engine.requests == []


async def test_a_worker_without_a_version_answers_for_the_one_that_the_gateway_resolved() -> None:
    versioned = _request("hi")
    versioned.version = "2"
    async with served_worker(EchoEngine(version="")) as worker:
        answer = await _native(worker).Infer(versioned, metadata=(("x-mesh-version", "2"),))
        assert answer.version == "2"
        error = await _error_of(_native(worker).Infer(versioned))
        assert type(error) is ModelNotFoundError


@pytest.mark.parametrize(("version", "is_served"), [("3", True), ("9", False)])
async def test_the_version_that_the_gateway_resolved_must_be_this_one(
    worker: ServedWorker, version: str, is_served: bool
) -> None:
    call = _native(worker).Infer(_request("hi"), metadata=(("x-mesh-version", version),))
    if is_served:
        await call
    else:
        assert type(await _error_of(call)) is ModelNotFoundError


async def test_another_models_name_is_refused_before_its_input_is_judged(worker: ServedWorker) -> None:
    request = oip.ModelInferRequest(model_name="other")
    request.inputs.add(name="unheard of", datatype="FP99", shape=[1])
    error = await _error_of(_open_inference(worker).ModelInfer(request))
    assert type(error) is ModelNotFoundError


async def test_a_model_that_is_not_loaded_says_so_by_every_protocol(unloaded: ServedWorker) -> None:
    request = oip.ModelInferRequest(model_name="gone")
    request.inputs.add(name="text_input", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"x")
    native = inference_pb2.InferRequest(model="gone", payload=_request("x").payload)
    for call in (
        _native(unloaded).Infer(native),
        _open_inference(unloaded).ModelInfer(request),
        _open_inference(unloaded).ModelMetadata(oip.ModelMetadataRequest(name="gone")),
    ):
        assert type(await _error_of(call)) is ModelNotReadyError
    async with httpx.AsyncClient(base_url=unloaded.url) as http:
        answer = await http.post("/infer", json={"inputs": []})
    assert answer.json()["error"]["code"] == "FAILED_PRECONDITION"
    assert metric_sum(await _metrics(unloaded), "mesh_worker_model_ready", model="gone") == 0


class _BrokenEngine(EchoEngine):
    """Keeps the failure that its load raises."""

    def __init__(self) -> None:
        super().__init__()
        self.failure = ModelNotReadyError("the file is truncated")

    async def load(self) -> None:
        raise self.failure


async def test_refusals_do_not_pile_up_in_memory() -> None:
    engine, depths = _BrokenEngine(), []
    async with served_worker(engine) as broken:
        for _ in range(2):
            for _ in range(10):
                await _error_of(_native(broken).Infer(_request("x")))
            depths.append(len(traceback.extract_tb(engine.failure.__traceback__)))
    assert depths[0] == depths[1]


@pytest.mark.parametrize("content", [b"{", b'{"promt": "x"}'])
async def test_unreadable_http_input_is_counted(worker: ServedWorker, content: bytes) -> None:
    async with httpx.AsyncClient(base_url=worker.url) as http:
        await http.post("/infer", content=content)
    page = await _metrics(worker)
    assert metric_sum(page, REQUESTS, protocol="http", code="INVALID_ARGUMENT") == 1


async def test_the_wait_for_the_engine_is_counted_of_requests_that_it_answered(worker: ServedWorker) -> None:
    await _native(worker).Infer(_request("one two"))
    await _error_of(_native(worker).Infer(_request("overload")))
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False) as http:
        page = (await http.get("/metrics")).text
    assert metric_sum(page, "mesh_worker_queue_wait_seconds_count") == 1
    assert metric_sum(page, "mesh_worker_queue_wait_seconds_sum") == 0.25


async def test_a_passed_deadline_is_counted_as_one_and_a_cancel_as_a_cancel(
    worker: ServedWorker, engine: EchoEngine
) -> None:
    await _error_of(_native(worker).Infer(_request("forever"), timeout=0.2))
    await _until(lambda: engine.running == 0)
    cancelled = _native(worker).Infer(_request("forever"), timeout=60)
    running = asyncio.ensure_future(_ended(cancelled))
    await _until(lambda: engine.running == 1)
    cancelled.cancel()
    await running
    await _until(lambda: engine.running == 0)
    page = await _metrics(worker)
    assert metric_sum(page, REQUESTS, code="DEADLINE_EXCEEDED") == 1
    assert metric_sum(page, REQUESTS, code="CANCELLED") == 1


async def test_an_http_client_that_leaves_frees_the_engine(worker: ServedWorker, engine: EchoEngine) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", worker.service.http_port)
    body = b'"forever"'
    writer.write(b"POST /infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    await _until(lambda: engine.running == 1)
    writer.close()
    await asyncio.wait_for(engine.released.wait(), 0.5)


async def test_during_the_grace_old_calls_finish_and_new_ones_are_refused_over_http_too(
    worker: ServedWorker, engine: EchoEngine
) -> None:
    running = asyncio.ensure_future(_native(worker).Infer(_request("forever")))
    await _until(lambda: engine.running == 1)
    await worker.service.drain()
    stopping = asyncio.ensure_future(worker.service.stop(10))
    await asyncio.sleep(0)
    async with httpx.AsyncClient(base_url=worker.url) as http:
        refused = await http.post("/infer", json="hi")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "UNAVAILABLE")
        assert (await http.get("/metrics")).status_code == 200
    engine.may_continue.set()
    assert (await running).output.generate.text == "forever "
    await asyncio.wait_for(stopping, 5)


async def _ended(call: Any) -> None:
    with pytest.raises(asyncio.CancelledError):
        await call
