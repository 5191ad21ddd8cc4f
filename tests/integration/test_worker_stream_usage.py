"""What a stream of Open Inference requests tells of its cost, so that it can be metered like any call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from inference_mesh import load_report, metadata
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.oip import open_inference_pb2_grpc
from inference_mesh.v1 import payload_pb2
from tests.fakes.echo_engine import EchoEngine
from tests.support.workers import served_worker


@pytest.fixture
async def stub() -> AsyncIterator[Any]:
    async with served_worker(EchoEngine()) as worker:
        yield open_inference_pb2_grpc.GRPCInferenceServiceStub(worker.channel)


def _request(prompt: str) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="echo")
    text = request.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    text.contents.bytes_contents.append(prompt.encode())
    return request


def _usage(trailers: Any) -> payload_pb2.Usage:
    data = metadata.bytes_of(tuple(trailers or ()), metadata.USAGE)
    assert data is not None
    return payload_pb2.Usage.FromString(data)


async def test_the_usage_of_all_requests_of_a_stream_and_one_load_report_come_last(stub: Any) -> None:
    call = stub.ModelStreamInfer(iter([_request("one two"), _request("three")]))
    assert metadata.value_of(tuple(await call.initial_metadata()), metadata.PROMPT_TOKENS) == "2"
    _ = [answer async for answer in call]
    trailers = tuple(await call.trailing_metadata())
    usage = _usage(trailers)
    assert (usage.prompt_tokens, usage.completion_tokens) == (3, 3)
    assert [name for name, _ in trailers].count(metadata.USAGE) == 1
    assert load_report.decode(metadata.bytes_of(trailers, metadata.LOAD_REPORT) or b"") is not None


async def test_a_stream_that_ends_by_a_status_tells_what_it_used_before(stub: Any) -> None:
    requests = iter([_request("one two"), _request("overload")])
    call = stub.ModelStreamInfer(requests, metadata=(("triton_grpc_error", "true"),))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [answer async for answer in call]
    assert _usage(caught.value.trailing_metadata()).completion_tokens == 2


async def test_a_stream_whose_first_request_fails_in_band_still_answers_the_second(stub: Any) -> None:
    call = stub.ModelStreamInfer(iter([_request("overload"), _request("one")]))
    answers = [answer async for answer in call]
    assert answers[0].error_message == "the queue is full"
    assert answers[-1].infer_response.parameters["triton_final_response"].bool_param


async def test_parameters_of_the_protocol_are_not_the_models_and_sequences_are_refused(stub: Any) -> None:
    request = _request("one")
    request.parameters["priority"].int64_param = 1
    request.parameters["timeout"].int64_param = 10**6
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    await stub.ModelInfer(request)
    request.parameters["sequence_id"].int64_param = 7
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
