"""Text piece by piece: the pieces, their end, leaving early and going on after a break."""

from __future__ import annotations

import grpc

from conformance.checks import expect, expect_same
from conformance.native.server import NATIVE, NativeServer, streamed
from inference_mesh.v1 import payload_pb2

UNSPECIFIED = payload_pb2.FINISH_REASON_UNSPECIFIED


@NATIVE.check
async def stream_gives_the_whole_text_in_pieces(server: NativeServer) -> None:
    """The pieces of a greedy stream, put together, are the text of the unary answer."""
    request = await server.generate_request()
    whole = (await server.infer(request)).output.generate
    pieces = await server.pieces(streamed(request))
    expect_same("".join(piece.output.generate.text for piece in pieces), whole.text, "the pieces' text")
    tokens = [token for piece in pieces for token in piece.output.generate.tokens]
    expect_same(tokens, list(whole.tokens), "the pieces' tokens")


@NATIVE.check
async def stream_ends_with_its_reason_and_usage(server: NativeServer) -> None:
    """The last piece, and no other, says why the answer ended; it has the usage."""
    pieces = await server.pieces(streamed(await server.generate_request()))
    expect(pieces, "there is no piece")
    reasons = [piece.output.generate.finish_reason for piece in pieces]
    expect(reasons[-1] != UNSPECIFIED, "the last piece has no finish_reason")
    expect(all(reason == UNSPECIFIED for reason in reasons[:-1]), "an earlier piece has a finish_reason")
    expect(pieces[-1].usage.completion_tokens > 0, "the last piece has no usage")


@NATIVE.check
async def stream_that_is_left_harms_nobody(server: NativeServer) -> None:
    """A stream that its caller leaves ends as CANCELLED, and the next call is answered."""
    request = await server.generate_request(payload_pb2.Generate(max_tokens=2000))
    call = server.stub.InferStream(streamed(request), metadata=server.metadata)
    await call.read()
    call.cancel()
    expect_same((await call.code()).name, grpc.StatusCode.CANCELLED.name, "status")
    await server.generate(payload_pb2.Generate(max_tokens=1))


@NATIVE.check
async def stream_goes_on_from_delivered_tokens(server: NativeServer) -> None:
    """With delivered_tokens a greedy stream goes on behind them, and the text is the unbroken one."""
    request = await server.generate_request(payload_pb2.Generate(max_tokens=12))
    whole = (await server.infer(request)).output.generate
    expect(len(whole.tokens) > 2, f"the answer has {len(whole.tokens)} tokens, too few to break it")
    request.payload.generate.delivered_tokens.extend(whole.tokens[:2])
    pieces = await server.pieces(streamed(request))
    rest = [token for piece in pieces for token in piece.output.generate.tokens]
    expect_same(rest, list(whole.tokens[2:]), "the tokens behind the delivered ones")
