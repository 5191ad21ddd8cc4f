"""Generated and mutated messages at a worker: a typed refusal or an answer, never anything else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from threading import Thread
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.v1 import inference_pb2, payload_pb2
from tests.support.processes import IRIS
from tests.support.workers import ServedWorker, served_worker
from workers.observer import NullObserver
from workers.onnx.engine import OnnxEngine
from workers.onnx.settings import OnnxSettings

METHODS = (
    "/inference_mesh.v1.InferenceService/Infer",
    "/inference_mesh.v1.InferenceService/GetModel",
    "/inference.GRPCInferenceService/ModelInfer",
    "/inference.GRPCInferenceService/ModelMetadata",
)
ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
}


def _good_messages() -> list[bytes]:
    tensor = payload_pb2.Tensor(name="features", datatype="FP32", shape=[1, 4], data=bytes(16))
    payload = payload_pb2.Payload(tensors=payload_pb2.Tensors(tensors=[tensor], outputs=["label"]))
    native = inference_pb2.InferRequest(model="iris", request_id="x", payload=payload)
    open_inference = oip.ModelInferRequest(model_name="iris", raw_input_contents=[bytes(16)])
    open_inference.inputs.add(name="features", datatype="FP32", shape=[1, 4])
    return [native.SerializeToString(), open_inference.SerializeToString()]


class _Worker:
    """A worker in an event loop of its own, so that generated tests can be plain functions."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._served: Future[ServedWorker] = Future()
        self._stop = asyncio.Event()
        self._thread = Thread(target=lambda: self._loop.run_until_complete(self._serve()))
        self._thread.start()

    async def _serve(self) -> None:
        engine = OnnxEngine(OnnxSettings(path=IRIS, name="iris"), NullObserver())
        async with served_worker(engine) as worker:
            self._served.set_result(worker)
            await self._stop.wait()

    def call(self, method: str, data: bytes) -> tuple[grpc.StatusCode, str]:
        """Status and message of one call."""
        return asyncio.run_coroutine_threadsafe(self._call(method, data), self._loop).result(30)

    async def _call(self, method: str, data: bytes) -> tuple[grpc.StatusCode, str]:
        call: Any = self._served.result(30).channel.unary_unary(method)
        try:
            await call(data, timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        return grpc.StatusCode.OK, ""

    def end(self) -> None:
        """Stop it."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        self._loop.close()


@pytest.fixture(scope="module")
def worker() -> Iterator[_Worker]:
    started = _Worker()
    yield started
    started.end()


def _check(worker: _Worker, method: str, data: bytes) -> None:
    code, message = worker.call(method, data)
    assert code in ALLOWED, (method, data, code, message)
    assert "<class" not in message
    assert "Traceback" not in message


@given(method=st.sampled_from(METHODS), data=st.binary(max_size=64))
def test_random_bytes_get_a_typed_answer(worker: _Worker, method: str, data: bytes) -> None:
    _check(worker, method, data)


@given(
    method=st.sampled_from(METHODS),
    message=st.sampled_from(_good_messages()),
    flips=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 200),
)
def test_mutated_messages_get_a_typed_answer(
    worker: _Worker, method: str, message: bytes, flips: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(message)
    for position, value in flips:
        data[position % len(data)] = value
    _check(worker, method, bytes(data[: max(1, len(data) - cut % 20)]))


@given(
    datatype=st.sampled_from(["FP32", "INT64", "BYTES", "BOOL", "FP16", "", "FP99"]),
    shape=st.lists(st.integers(-2, 2**40), max_size=4),
    size=st.integers(0, 64),
)
def test_any_tensor_gets_a_typed_answer(worker: _Worker, datatype: str, shape: list[int], size: int) -> None:
    tensor = payload_pb2.Tensor(name="features", datatype=datatype, shape=shape, data=bytes(size))
    payload = payload_pb2.Payload(tensors=payload_pb2.Tensors(tensors=[tensor]))
    _check(worker, METHODS[0], inference_pb2.InferRequest(model="iris", payload=payload).SerializeToString())
