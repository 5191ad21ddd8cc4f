"""The Open Inference Protocol at a worker: tensors as they are, texts as BYTES, streams as Triton's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from inference_mesh.error_status import error_from_rpc
from inference_mesh.errors import InvalidInputError, ModelNotFoundError
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.oip import open_inference_pb2_grpc
from tests.fakes.echo_engine import EchoEngine
from tests.support.processes import IRIS
from tests.support.workers import served_worker
from workers.observer import NullObserver
from workers.onnx.engine import OnnxEngine
from workers.onnx.settings import OnnxSettings

SETOSA = [5.1, 3.5, 1.4, 0.2]


@pytest.fixture
async def iris() -> AsyncIterator[Any]:
    engine = OnnxEngine(OnnxSettings(path=Path(IRIS), name="iris"), NullObserver())
    async with served_worker(engine) as worker:
        yield open_inference_pb2_grpc.GRPCInferenceServiceStub(worker.channel)


@pytest.fixture
async def echo() -> AsyncIterator[Any]:
    async with served_worker(EchoEngine()) as worker:
        yield open_inference_pb2_grpc.GRPCInferenceServiceStub(worker.channel)


def _request(model: str = "iris", **fields: Any) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name=model, id="mine", **fields)
    request.inputs.add(name="features", datatype="FP32", shape=[1, 4])
    return request


def _text_request(prompt: str) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="echo", id="mine")
    text = request.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    text.contents.bytes_contents.append(prompt.encode())
    return request


def _raw(values: list[float]) -> bytes:
    return np.array(values, dtype="<f4").tobytes()


async def test_raw_and_typed_contents_give_the_same_answer(iris: Any) -> None:
    raw, typed = _request(raw_input_contents=[_raw(SETOSA)]), _request()
    typed.inputs[0].contents.fp32_contents.extend(SETOSA)
    first, second = await iris.ModelInfer(raw), await iris.ModelInfer(typed)
    assert first == second
    assert first.id == "mine"
    outputs = dict(zip((output.name for output in first.outputs), first.raw_output_contents, strict=True))
    assert np.frombuffer(outputs["label"], "<i8").tolist() == [0]


async def test_only_the_requested_outputs_come_back(iris: Any) -> None:
    request = _request(raw_input_contents=[_raw(SETOSA)])
    request.outputs.add(name="probabilities")
    answer = await iris.ModelInfer(request)
    assert [output.name for output in answer.outputs] == ["probabilities"]


async def test_metadata_shows_inputs_and_outputs(iris: Any) -> None:
    answer = await iris.ModelMetadata(oip.ModelMetadataRequest(name="iris"))
    assert [(one.name, one.datatype, list(one.shape)) for one in answer.inputs] == [
        ("features", "FP32", [-1, 4])
    ]
    assert {one.name for one in answer.outputs} == {"label", "probabilities"}
    assert answer.platform == "onnxruntime_onnx"


async def test_a_worker_names_only_what_it_speaks(iris: Any) -> None:
    server = await iris.ServerMetadata(oip.ServerMetadataRequest())
    assert (server.name, server.version, list(server.extensions)) == (
        "inference-mesh",
        version("inference-mesh"),
        ["parameters"],
    )
    for method, request in (
        (iris.ModelConfig, oip.ModelConfigRequest(name="iris")),
        (iris.ModelStatistics, oip.ModelStatisticsRequest()),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(request)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_readiness_is_told_and_an_unknown_model_is_not_found(iris: Any) -> None:
    assert (await iris.ServerLive(oip.ServerLiveRequest())).live
    assert (await iris.ServerReady(oip.ServerReadyRequest())).ready
    assert (await iris.ModelReady(oip.ModelReadyRequest(name="iris"))).ready
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await iris.ModelReady(oip.ModelReadyRequest(name="other"))
    assert type(error_from_rpc(caught.value)) is ModelNotFoundError


@pytest.mark.parametrize(
    "raw", [[_raw([1, 2, 3])], [_raw(SETOSA), _raw(SETOSA)], [b""]], ids=["short", "too many", "empty"]
)
async def test_contents_that_do_not_fit_are_invalid(iris: Any, raw: list[bytes]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await iris.ModelInfer(_request(raw_input_contents=raw))
    assert isinstance(error_from_rpc(caught.value), InvalidInputError)


async def test_raw_and_typed_contents_together_are_invalid(iris: Any) -> None:
    request = _request(raw_input_contents=[_raw(SETOSA)])
    request.inputs[0].contents.fp32_contents.extend(SETOSA)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await iris.ModelInfer(request)
    assert isinstance(error_from_rpc(caught.value), InvalidInputError)


async def test_a_text_model_takes_and_gives_bytes(echo: Any) -> None:
    answer = await echo.ModelInfer(_text_request("one two"))
    assert answer.outputs[0].name == "text_output"
    assert answer.raw_output_contents[0][4:] == b"one two "


async def test_a_stream_answers_piece_by_piece_and_marks_the_last(echo: Any) -> None:
    answers = [answer async for answer in echo.ModelStreamInfer(iter([_text_request("one two")]))]
    texts = [answer.infer_response.raw_output_contents[0][4:] for answer in answers]
    finals = [answer.infer_response.parameters["triton_final_response"].bool_param for answer in answers]
    assert texts == [b"one ", b"two ", b""]
    assert finals == [False, False, True]


async def test_an_error_in_a_stream_comes_in_band_and_the_stream_goes_on(echo: Any) -> None:
    requests = iter([_text_request("overload"), _text_request("one")])
    answers = [answer async for answer in echo.ModelStreamInfer(requests)]
    assert answers[0].error_message == "the queue is full"
    assert answers[0].infer_response.id == "mine"
    assert answers[1].infer_response.raw_output_contents[0][4:] == b"one "


async def test_an_error_in_a_stream_is_a_status_if_the_client_asks(echo: Any) -> None:
    call = echo.ModelStreamInfer(iter([_text_request("overload")]), metadata=(("triton_grpc_error", "true"),))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [answer async for answer in call]
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_stream_stays_with_its_model(echo: Any) -> None:
    other = _text_request("two")
    other.model_name = "another"
    answers = [answer async for answer in echo.ModelStreamInfer(iter([_text_request("one"), other]))]
    assert "another" not in answers[0].error_message
    assert "stream is of model" in answers[-1].error_message
