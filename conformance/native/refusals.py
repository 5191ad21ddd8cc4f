"""Refusals: what is wrong is said by a status that a program can act on, and the server goes on."""

from __future__ import annotations

from typing import Any

import grpc

from conformance.checks import NotApplicableError, expect
from conformance.doors import WRONG_KEY, metadata_of, refused
from conformance.native.server import NATIVE, UNKNOWN_MODEL, NativeServer, streamed
from inference_mesh.v1 import inference_pb2, payload_pb2

INVALID = grpc.StatusCode.INVALID_ARGUMENT
INFER = "/inference_mesh.v1.InferenceService/Infer"


@NATIVE.check
async def unknown_model_is_not_found(server: NativeServer) -> None:
    """Infer on a model that does not exist ends with NOT_FOUND."""
    payload = payload_pb2.Payload(generate=payload_pb2.Generate(prompt="x"))
    request = inference_pb2.InferRequest(model=UNKNOWN_MODEL, payload=payload)
    await refused(server.infer(request), grpc.StatusCode.NOT_FOUND)


@NATIVE.check
async def missing_payload_is_invalid(server: NativeServer) -> None:
    """Infer without a payload ends with INVALID_ARGUMENT."""
    model = (await server.generate_request()).model
    await refused(server.infer(inference_pb2.InferRequest(model=model)), INVALID)


@NATIVE.check
async def payload_of_another_task_is_invalid(server: NativeServer) -> None:
    """Texts to embed, sent to a model that generates, end with INVALID_ARGUMENT."""
    request = await server.generate_request()
    request.payload.embed.texts.append("x")
    await refused(server.infer(request), INVALID)


@NATIVE.check
async def values_out_of_range_are_invalid(server: NativeServer) -> None:
    """A negative temperature and a top_p above 1 end with INVALID_ARGUMENT."""
    for sampling in (payload_pb2.Sampling(temperature=-1), payload_pb2.Sampling(top_p=2)):
        request = await server.generate_request(payload_pb2.Generate(sampling=sampling))
        await refused(server.infer(request), INVALID)


@NATIVE.check
async def malformed_message_is_invalid(server: NativeServer) -> None:
    """Bytes that are no message end with INVALID_ARGUMENT, and the next call is answered."""
    call: Any = server.channel.unary_unary(INFER)
    await refused(call(b"\x0a\xff\xff\xff\xff", metadata=server.metadata), INVALID)
    await server.generate(payload_pb2.Generate(max_tokens=1))


@NATIVE.check
async def unknown_method_is_unimplemented(server: NativeServer) -> None:
    """A method that does not exist ends with UNIMPLEMENTED."""
    call: Any = server.channel.unary_unary("/inference_mesh.v1.InferenceService/NoSuchMethod")
    await refused(call(b"", metadata=server.metadata), grpc.StatusCode.UNIMPLEMENTED)


@NATIVE.check
async def expired_deadline_ends_the_call(server: NativeServer) -> None:
    """A stream that its deadline cannot hold ends with DEADLINE_EXCEEDED, and the next call is answered."""
    request = await server.generate_request(payload_pb2.Generate(max_tokens=4000))
    await refused(server.pieces(streamed(request), timeout_s=0.001), grpc.StatusCode.DEADLINE_EXCEEDED)
    await server.generate(payload_pb2.Generate(max_tokens=1))


@NATIVE.check
async def missing_key_is_unauthenticated(server: NativeServer) -> None:
    """A call without credentials ends with UNAUTHENTICATED."""
    await _refuses(server, ())


@NATIVE.check
async def wrong_key_is_unauthenticated(server: NativeServer) -> None:
    """A call with a key that does not exist ends with UNAUTHENTICATED."""
    await _refuses(server, metadata_of(WRONG_KEY))


@NATIVE.check
async def refusals_say_their_reason(server: NativeServer) -> None:
    """A refusal has a text for people and google.rpc.Status details for programs."""
    payload = payload_pb2.Payload(generate=payload_pb2.Generate(prompt="x"))
    request = inference_pb2.InferRequest(model=UNKNOWN_MODEL, payload=payload)
    error = await refused(server.infer(request), grpc.StatusCode.NOT_FOUND)
    expect(error.details(), "the status has no text")
    names = [name for name, _ in error.trailing_metadata()]
    expect("grpc-status-details-bin" in names, "the trailers have no grpc-status-details-bin")


async def _refuses(server: NativeServer, metadata: tuple[tuple[str, str], ...]) -> None:
    if not server.has_key:
        raise NotApplicableError("the run has no API key, so the server may need none; give one by --api-key")
    call = server.stub.ListModels(inference_pb2.ListModelsRequest(), metadata=metadata)
    await refused(call, grpc.StatusCode.UNAUTHENTICATED)
