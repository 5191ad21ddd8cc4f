"""A gRPC proxy before a good server that changes what it says: one lie at a time.

For the conformance suites: each of their checks must notice the lie that is made for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.v1 import inference_pb2

METHODS: dict[str, Any] = {
    f"/{service.full_name}/{method.name}": method
    for file in (oip.DESCRIPTOR, inference_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
}
"""The methods of these protocols, by path."""


EMPTY = b""
"""The message of any class that says nothing."""


@dataclasses.dataclass(frozen=True)
class Lie:
    """What is changed in the calls of a method (its name; "*" = of all, also unknown ones).

    answer: changes an answer. stream: makes other messages of a whole stream's.
    error: the status instead of the real one, where a call fails. refuses: a status whatever the
    server says. answers_errors: an empty answer
    instead of any error. silent: an error loses its details.
    """

    method: str
    answer: Callable[[Any], None] | None = None
    stream: Callable[[list[Any]], list[Any]] | None = None
    error: grpc.StatusCode | None = None
    refuses: grpc.StatusCode | None = None
    answers_errors: bool = False
    silent: bool = False


@dataclasses.dataclass
class LyingProxy:
    """A running proxy; `lie` is what it does now, None = it is honest."""

    target: str
    lie: Lie | None = None


@asynccontextmanager
async def lying_proxy(target: str) -> AsyncIterator[LyingProxy]:
    """A proxy on loopback before a server."""
    async with grpc.aio.insecure_channel(target) as channel:
        server = grpc.aio.server()
        proxy = LyingProxy(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        server.add_generic_rpc_handlers((_Handler(channel, proxy),))
        await server.start()
        try:
            yield proxy
        finally:
            await server.stop(0)


class _Handler(grpc.GenericRpcHandler):
    """Handles every method as a stream of bytes both ways."""

    def __init__(self, channel: grpc.aio.Channel, proxy: LyingProxy) -> None:
        self._channel = channel
        self._proxy = proxy

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        path = handler_call_details.method

        async def handle(requests: Any, context: Any) -> AsyncIterator[bytes]:
            call = self._call(path, requests, context)
            async for message in _Told(path, self._proxy.lie).messages(call, context):
                yield message

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _call(self, path: str, requests: Any, context: Any) -> AsyncIterator[bytes]:
        """The messages of the same call to the server."""
        terms = {"metadata": context.invocation_metadata(), "timeout": context.time_remaining()}
        method = METHODS.get(path)
        if method is not None and (method.server_streaming or method.client_streaming):
            call: Any = self._channel.stream_stream(path)(requests, **terms)
            async for data in call:
                yield data
        else:
            asked = [request async for request in requests]
            yield await self._channel.unary_unary(path)(asked[0], **terms)


class _Told:
    """What becomes of one call."""

    def __init__(self, path: str, lie: Lie | None) -> None:
        self._method = METHODS.get(path)
        name = path.rpartition("/")[2]
        self._lie = lie if lie is not None and lie.method in ("*", name) else Lie(name)

    async def messages(self, call: Any, context: Any) -> AsyncIterator[bytes]:
        if self._lie.refuses is not None:
            await context.abort(self._lie.refuses, "a lie")
        if self._method is None or (self._lie.answer is None and self._lie.stream is None):
            told = call
        else:
            told = self._changed(call, GetMessageClass(self._method.output_type))
        failure: grpc.aio.AioRpcError | None = None
        try:
            async for data in told:
                yield data
        except grpc.aio.AioRpcError as error:
            failure = error
        if failure is not None and self._lie.answers_errors:
            yield EMPTY
        elif failure is not None:
            trailers = () if self._lie.silent else tuple(failure.trailing_metadata() or ())
            await context.abort(self._lie.error or failure.code(), failure.details() or "", trailers)

    async def _changed(self, call: Any, kind: type[Message]) -> AsyncIterator[bytes]:
        kept: list[Message] = []
        async for data in call:
            message = kind.FromString(data)
            if self._lie.answer is not None:
                self._lie.answer(message)
            if self._lie.stream is None:
                yield message.SerializeToString()
            else:
                kept.append(message)
        if self._lie.stream is not None:
            for message in self._lie.stream(kept):
                yield message.SerializeToString()
