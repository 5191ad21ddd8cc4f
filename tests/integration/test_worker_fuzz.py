"""Generated and mutated messages at a worker: a typed refusal or an answer, never anything else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.v1 import inference_pb2, payload_pb2
from tests.support.processes import IRIS, process_group

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


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    """To a worker in a process of its own: generated tests are plain functions."""
    with process_group(tmp_path_factory.mktemp("fuzz")) as group:
        process = group.worker(IRIS, name="iris", runtime="onnx")
        process.wait_until_ready()
        with grpc.insecure_channel(process.grpc_target) as opened:
            yield opened
        assert process.popen.poll() is None


def _check(channel: grpc.Channel, method: str, data: bytes) -> None:
    call: Any = channel.unary_unary(method)
    code, message = grpc.StatusCode.OK, ""
    try:
        call(data, timeout=10)
    except grpc.RpcError as error:
        code, message = error.code(), error.details() or ""
    assert code in ALLOWED, (method, data, code, message)
    assert "<class" not in message
    assert "Traceback" not in message


@given(method=st.sampled_from(METHODS), data=st.binary(max_size=64))
def test_random_bytes_get_a_typed_answer(channel: grpc.Channel, method: str, data: bytes) -> None:
    _check(channel, method, data)


@given(
    method=st.sampled_from(METHODS),
    message=st.sampled_from(_good_messages()),
    flips=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 200),
)
def test_mutated_messages_get_a_typed_answer(
    channel: grpc.Channel, method: str, message: bytes, flips: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(message)
    for position, value in flips:
        data[position % len(data)] = value
    _check(channel, method, bytes(data[: max(1, len(data) - cut % 20)]))


@given(
    datatype=st.sampled_from(["FP32", "INT64", "BYTES", "BOOL", "FP16", "", "FP99"]),
    shape=st.lists(st.integers(-2, 2**40), max_size=4),
    size=st.integers(0, 64),
)
def test_any_tensor_gets_a_typed_answer(
    channel: grpc.Channel, datatype: str, shape: list[int], size: int
) -> None:
    tensor = payload_pb2.Tensor(name="features", datatype=datatype, shape=shape, data=bytes(size))
    payload = payload_pb2.Payload(tensors=payload_pb2.Tensors(tensors=[tensor]))
    _check(channel, METHODS[0], inference_pb2.InferRequest(model="iris", payload=payload).SerializeToString())
