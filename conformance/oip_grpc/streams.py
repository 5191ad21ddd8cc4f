"""ModelStreamInfer with Triton's semantics: errors in band, statuses by wish, empty final responses."""

from __future__ import annotations

from collections.abc import Iterable

import grpc

from conformance.checks import expect, expect_same
from conformance.doors import refused
from conformance.oip_grpc.server import OIP_GRPC, OipServer, implemented
from conformance.oip_grpc.tensors import raw_request
from inference_mesh.oip import open_inference_pb2 as oip

BY_STATUS = (("triton_grpc_error", "true"),)


@OIP_GRPC.check
async def stream_answers_in_order(server: OipServer) -> None:
    """Three requests of one stream have three answers, in their order by id."""
    answers = await _stream(server, await _requests(server, "a", "b", "c"))
    expect_same([one.infer_response.id for one in answers], ["a", "b", "c"], "ids of the answers")


@OIP_GRPC.check
async def stream_goes_on_after_an_error(server: OipServer) -> None:
    """An error is told in error_message, and the requests behind it are answered."""
    requests = await _requests(server, "a", "b", "c")
    requests[1].inputs[0].name = "conformance_no_such_input"
    answers = await _stream(server, requests)
    expect_same(len(answers), 3, "number of answers")
    expect_same([bool(one.error_message) for one in answers], [False, True, False], "which are errors")


@OIP_GRPC.check
async def stream_ends_with_a_status_by_wish(server: OipServer) -> None:
    """With the metadata triton_grpc_error: true an error ends the stream with its status."""
    requests = await _requests(server, "a")
    await _stream(server, requests)  # is it implemented at all?
    requests[0].inputs[0].name = "conformance_no_such_input"
    call = server.stub.ModelStreamInfer(metadata=server.metadata + BY_STATUS)
    # Nothing is written behind it: a write to a stream that has ended hides the status in grpc.aio.
    await call.write(requests[0])
    await refused(call.read(), grpc.StatusCode.INVALID_ARGUMENT)


@OIP_GRPC.check
async def stream_ends_with_an_empty_final_response(server: OipServer) -> None:
    """With triton_enable_empty_final_response the last message of an answer says triton_final_response."""
    requests = await _requests(server, "a")
    requests[0].parameters["triton_enable_empty_final_response"].bool_param = True
    answers = await _stream(server, requests)
    finals = [one.infer_response.parameters["triton_final_response"].bool_param for one in answers]
    expect(finals and finals[-1], "the last message does not say triton_final_response")
    expect_same(finals.count(True), 1, "number of final messages")


async def _requests(server: OipServer, *ids: str) -> list[oip.ModelInferRequest]:
    model = await server.tensor_model()
    requests = []
    for name in ids:
        request = raw_request(model)
        request.id = name
        requests.append(request)
    return requests


async def _stream(
    server: OipServer, requests: Iterable[oip.ModelInferRequest]
) -> list[oip.ModelStreamInferResponse]:
    """All messages of a stream. Raises NotApplicableError if the server has no streams."""
    call = server.stub.ModelStreamInfer(iter(list(requests)), metadata=server.metadata)

    async def read() -> list[oip.ModelStreamInferResponse]:
        return [message async for message in call]

    return await implemented(read(), "ModelStreamInfer")
