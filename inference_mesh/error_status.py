"""Errors as gRPC statuses, and the way back.

Owns the wire form of a MeshError: its code, its message and google.rpc details (ErrorInfo,
RetryInfo, QuotaFailure). Does not own where they are raised or caught: `status_interceptor` ends a
server's calls with them, a client makes them of what its calls end with.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from inference_mesh.errors import InternalError, MeshError, QuotaViolation, all_error_classes
from inference_mesh.metadata import RETRY_PUSHBACK, bytes_of

STATUS_DETAILS = "grpc-status-details-bin"
ERROR_DOMAIN = "inference-mesh"
MAX_VIOLATIONS = 16

Trailers = tuple[tuple[str, str | bytes], ...]


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
    return error_from_status(error.code(), error.details() or "", pairs_of(error.trailing_metadata()))


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


def pairs_of(metadata: Any) -> Trailers:
    """Metadata as grpc gives it, None or pairs of any class, as plain pairs."""
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
