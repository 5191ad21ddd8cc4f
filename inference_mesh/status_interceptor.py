"""The one place where errors become gRPC statuses, and the way back.

Servicers raise MeshError; this interceptor ends the call with its code, its message and
google.rpc details (ErrorInfo, RetryInfo, QuotaFailure). What is not a MeshError becomes
INTERNAL "internal error" and a log line. `error_from_rpc` turns the status of an upstream call
into the same MeshError again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from inference_mesh import telemetry
from inference_mesh.errors import InternalError, MeshError, QuotaViolation, all_error_classes
from inference_mesh.metadata import REQUEST_ID, RETRY_PUSHBACK, bytes_of, value_of

log = telemetry.get_logger(__name__)

STATUS_DETAILS = "grpc-status-details-bin"
ERROR_DOMAIN = "inference-mesh"
MAX_VIOLATIONS = 16
MAX_KEPT_HANDLERS = 256
"""A server may make its handlers for each call; those are not worth keeping."""

Trailers = tuple[tuple[str, str | bytes], ...]


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


def status_trailers(error: MeshError) -> Trailers:
    """The trailers that tell an error's reason, and when to come back."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN)
    details = [_packed(info)]
    trailers: list[tuple[str, str | bytes]] = []
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
        trailers.append((RETRY_PUSHBACK, str(math.ceil(round(error.retry_after_s * 1000, 3)))))
    if error.violations:
        details.append(_packed(_quota_failure(error.violations)))
    status = status_pb2.Status(code=error.code.value[0], message=error.message, details=details)
    trailers.append((STATUS_DETAILS, status.SerializeToString()))
    return tuple(trailers)


def error_from_rpc(error: grpc.aio.AioRpcError) -> MeshError:
    """The MeshError that a peer's status stands for: by its reason, else by its code."""
    return error_from_status(error.code(), error.details() or "", _pairs(error.trailing_metadata()))


def error_from_status(code: grpc.StatusCode, message: str, trailers: Trailers) -> MeshError:
    """The MeshError of a status and its trailers; an unknown code becomes InternalError."""
    details = _details(bytes_of(trailers, STATUS_DETAILS))
    error_class = _class_for(code, details.reason)
    if error_class is InternalError:
        return InternalError()
    error = error_class.__new__(error_class)
    MeshError.__init__(
        error, message, retry_after_s=details.retry_after_s, violations=tuple(details.violations)
    )
    return error


def reason_of(trailers: Trailers) -> str:
    """The stable reason that a status's trailers tell; empty if they tell none."""
    return _details(bytes_of(trailers, STATUS_DETAILS)).reason


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


def _quota_failure(violations: tuple[QuotaViolation, ...]) -> error_details_pb2.QuotaFailure:
    return error_details_pb2.QuotaFailure(
        violations=[
            error_details_pb2.QuotaFailure.Violation(subject=one.subject, description=one.description)
            for one in violations[:MAX_VIOLATIONS]
        ]
    )


@dataclasses.dataclass(slots=True)
class _Details:
    """What grpc-status-details-bin tells; empty if there are none, or they are damaged."""

    reason: str = ""
    retry_after_s: float | None = None
    violations: list[QuotaViolation] = dataclasses.field(default_factory=list)


def _details(data: bytes | None) -> _Details:
    found = _Details()
    try:
        for detail in status_pb2.Status.FromString(data or b"").details:
            _note(found, detail)
    except (DecodeError, ValueError):  # ValueError: a duration that is out of range
        return _Details()
    return found


def _note(found: _Details, detail: any_pb2.Any) -> None:
    info, retry, quota = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.RetryInfo(),
        error_details_pb2.QuotaFailure(),
    )
    if detail.Unpack(info):
        found.reason = info.reason if info.domain == ERROR_DOMAIN else found.reason
    elif detail.Unpack(retry):
        found.retry_after_s = max(0.0, retry.retry_delay.ToNanoseconds() / 1e9)
    elif detail.Unpack(quota):
        found.violations += [
            QuotaViolation(one.subject, one.description) for one in quota.violations[:MAX_VIOLATIONS]
        ]


def _class_for(code: grpc.StatusCode, reason: str) -> type[MeshError]:
    """The class of that reason; else the first one of that code."""
    classes = all_error_classes()
    by_reason = [found for found in classes if found.code == code and found.reason == reason]
    by_code = [found for found in classes if found.code == code]
    return (by_reason or by_code or [InternalError])[0]
