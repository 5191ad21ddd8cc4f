"""The one place of a server where errors end calls.

Servicers raise MeshError; this interceptor ends the call with the status that `error_status` makes
of it. What is not a MeshError becomes INTERNAL "internal error" and a log line.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from inference_mesh import telemetry
from inference_mesh.error_status import pairs_of, status_trailers
from inference_mesh.errors import InternalError, MeshError
from inference_mesh.metadata import REQUEST_ID, value_of

log = telemetry.get_logger(__name__)

MAX_KEPT_HANDLERS = 256
"""A server may make its handlers for each call; those are not worth keeping."""


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Ends every call that raises with a typed status."""

    def __init__(self) -> None:
        # The handlers of a server are the same for every call, and few.
        self._guarded: dict[grpc.RpcMethodHandler[Any, Any], grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler of the call, guarded."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        guarded = self._guarded.get(handler)
        if guarded is None:
            make = _streaming_handler if handler.response_streaming else _unary_handler
            guarded = make(handler)
            if len(self._guarded) < MAX_KEPT_HANDLERS:
                self._guarded[handler] = guarded
        return guarded


def unmapped(error: Exception) -> MeshError:
    """What a caller sees of an exception that is not a MeshError; the log has the rest."""
    log.exception("unmapped exception", exception=type(error).__name__)
    return InternalError()


def _unary_handler(handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
    inner: Any = handler.stream_unary if handler.request_streaming else handler.unary_unary

    @functools.wraps(inner)
    async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        _remember_request_id(context)
        try:
            return await inner(request, context)
        except Exception as error:  # noqa: BLE001  # every error becomes a status here, and only here
            await _abort(context, error)

    make = (
        grpc.stream_unary_rpc_method_handler
        if handler.request_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    return make(guarded, handler.request_deserializer, handler.response_serializer)


def _streaming_handler(handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
    inner: Any = handler.stream_stream if handler.request_streaming else handler.unary_stream

    @functools.wraps(inner)
    async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        _remember_request_id(context)
        try:
            async for response in _responses(inner, request, context):
                yield response
        except Exception as error:  # noqa: BLE001  # every error becomes a status here, and only here
            await _abort(context, error)

    make = (
        grpc.stream_stream_rpc_method_handler
        if handler.request_streaming
        else grpc.unary_stream_rpc_method_handler
    )
    return make(guarded, handler.request_deserializer, handler.response_serializer)


async def _responses(
    inner: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]
) -> AsyncIterator[Any]:
    """Responses of either style of handler: an async generator, or a coroutine that writes.

    The generator is closed with its consumer, so that a caller who leaves stops the work now
    and not at the next collection of garbage.
    """
    produced = inner(request, context)
    if not hasattr(produced, "__aiter__"):
        await produced
        return
    try:
        async for response in produced:
            yield response
    finally:
        await produced.aclose()


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> None:
    """End the call. An abort that a library's own servicer made goes on as it is."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, asyncio.InvalidStateError) and context.cancelled():
        return
    mesh_error = error if isinstance(error, MeshError) else unmapped(error)
    trailers = (*pairs_of(context.trailing_metadata()), *status_trailers(mesh_error))
    await context.abort(mesh_error.code, mesh_error.message, trailers)


def _remember_request_id(context: grpc.aio.ServicerContext[Any, Any]) -> None:
    telemetry.current_request_id.set(value_of(pairs_of(context.invocation_metadata()), REQUEST_ID) or "")
