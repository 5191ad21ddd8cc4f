"""The one place where errors become gRPC statuses, and the way back.

Servicers raise MeshError; this interceptor ends the call with its code, its message and
google.rpc details. What is not a MeshError becomes INTERNAL "internal error" and a log line.
`error_from_rpc` turns the status of an upstream call into the same MeshError again.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from inference_mesh import telemetry
from inference_mesh.errors import InternalError, MeshError, all_error_classes
from inference_mesh.metadata import REQUEST_ID, RETRY_PUSHBACK, bytes_of, value_of

log = telemetry.get_logger(__name__)

STATUS_DETAILS = "grpc-status-details-bin"
ERROR_DOMAIN = "inference-mesh"

Trailers = tuple[tuple[str, str | bytes], ...]


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Ends every call that raises with a typed status."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler of the call, guarded."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        if handler.response_streaming:
            return _streaming_handler(handler)
        return _unary_handler(handler)


def status_trailers(error: MeshError) -> Trailers:
    """The trailers that tell an error's reason, and when to come back."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN)
    details = [_packed(info)]
    trailers: list[tuple[str, str | bytes]] = []
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
        trailers.append((RETRY_PUSHBACK, str(int(error.retry_after_s * 1000))))
    status = status_pb2.Status(code=error.code.value[0], message=error.message, details=details)
    trailers.append((STATUS_DETAILS, status.SerializeToString()))
    return tuple(trailers)


def error_from_rpc(error: grpc.aio.AioRpcError) -> MeshError:
    """The MeshError that a peer's status stands for: by its reason, else by its code."""
    return error_from_status(error.code(), error.details() or "", _pairs(error.trailing_metadata()))


def error_from_status(code: grpc.StatusCode, message: str, trailers: Trailers) -> MeshError:
    """The MeshError of a status and its trailers; an unknown code becomes InternalError."""
    reason, retry_after_s = _details(bytes_of(trailers, STATUS_DETAILS))
    error_class = _class_for(code, reason)
    if error_class is InternalError:
        return InternalError()
    error = error_class.__new__(error_class)
    MeshError.__init__(error, message, retry_after_s=retry_after_s)
    return error


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
    trailers = (*_pairs(context.trailing_metadata()), *status_trailers(mesh_error))
    await context.abort(mesh_error.code, mesh_error.message, trailers)


def _remember_request_id(context: grpc.aio.ServicerContext[Any, Any]) -> None:
    telemetry.current_request_id.set(value_of(_pairs(context.invocation_metadata()), REQUEST_ID) or "")


def _pairs(metadata: Any) -> Trailers:
    return tuple((key, value) for key, value in metadata or ())


def _packed(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _details(data: bytes | None) -> tuple[str, float | None]:
    """Reason and retry hint of grpc-status-details-bin; ("", None) if there are none."""
    reason, retry_after_s = "", None
    try:
        status = status_pb2.Status.FromString(data or b"")
        for detail in status.details:
            info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
            if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
                reason = info.reason
            elif detail.Unpack(retry):
                retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    except DecodeError:
        return "", None
    return reason, retry_after_s


def _class_for(code: grpc.StatusCode, reason: str) -> type[MeshError]:
    """The class of that reason; else the first one of that code."""
    classes = all_error_classes()
    by_reason = [found for found in classes if found.code == code and found.reason == reason]
    by_code = [found for found in classes if found.code == code]
    return (by_reason or by_code or [InternalError])[0]
