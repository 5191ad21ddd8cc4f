"""The errors of the mesh: one class for each cause that a caller can tell apart.

Owns the classes, the gRPC status of each and the one table from gRPC status to HTTP. Does
not own the wire form: `error_status` and `rest_bridge.problem` translate.

    MeshError
    ├── InvalidInputError          INVALID_ARGUMENT    the request itself is wrong
    │   ├── PayloadMismatchError     wrong kind of payload for the model's task
    │   └── InputTooLongError        more tokens than the model holds
    ├── UnauthenticatedError       UNAUTHENTICATED     no credential, or not a valid one
    ├── ForbiddenError             PERMISSION_DENIED   a valid caller, not allowed this
    ├── ModelNotFoundError         NOT_FOUND           no such model or version
    ├── RequestTooLargeError       RESOURCE_EXHAUSTED  message or body over the size limit
    ├── QuotaError                 RESOURCE_EXHAUSTED  a limit of the caller or the model is reached
    │   ├── RateLimitedError         more requests than it may send
    │   ├── ConcurrencyLimitedError  more calls at once than it may have
    │   └── TokenBudgetError         its token budget is spent
    ├── OverloadedError            RESOURCE_EXHAUSTED  the queue is full
    ├── UnsupportedError           UNIMPLEMENTED       this model or service cannot do that
    ├── ModelNotReadyError         FAILED_PRECONDITION the model failed to load
    ├── DeadlineExceededError      DEADLINE_EXCEEDED   no time left
    ├── CancelledByCallerError     CANCELLED           the caller left
    ├── UnavailableError           UNAVAILABLE         nobody can answer now; retry
    │   ├── LimitsUnknownError       the shared limits cannot be asked, and the rule says to refuse
    │   ├── ShuttingDownError        this process is draining
    │   └── StreamBrokenError        the worker died in the middle of a stream
    └── InternalError              INTERNAL            a fault of ours
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import grpc


@dataclasses.dataclass(frozen=True, slots=True)
class QuotaViolation:
    """One limit that was reached; travels as google.rpc.QuotaFailure.Violation.

    subject: the limit, e.g. "tenant:acme:tokens". description: what it allows.
    """

    subject: str
    description: str


class MeshError(Exception):
    """An error that a caller may see: its message is for them and has no internals.

    `reason` is stable and travels in google.rpc.ErrorInfo; `cause` and `cure` are the
    sentences of docs/errors.md. `retry_after_s` is a hint, None where there is none.
    `violations`: the limits that were reached, the first one first.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ClassVar[str] = "INTERNAL"
    cause: ClassVar[str] = ""
    cure: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        violations: tuple[QuotaViolation, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.violations = violations


class InvalidInputError(MeshError):
    """The request itself is wrong; sending it again cannot help."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_INPUT"
    cause = "A field is missing, malformed or out of its range; the message names it and what is allowed."
    cure = "Correct the request; do not retry it unchanged."


class PayloadMismatchError(InvalidInputError):
    """The payload's kind does not fit the model's task."""

    reason = "PAYLOAD_MISMATCH"
    cause = "The payload is of another kind than the model's task takes, e.g. texts to a chat model."
    cure = "Send the payload that the message names, or choose a model of the right task."


class InputTooLongError(InvalidInputError):
    """The input has more tokens than the model holds."""

    reason = "INPUT_TOO_LONG"
    cause = "The prompt or text has more tokens than the model's context or input length."
    cure = "Shorten the input, or set truncate where the task has it."


class UnauthenticatedError(MeshError):
    """No credential, or not a valid one; all such refusals read the same."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"
    cause = "The call carries no valid API key (missing, unknown, wrong, expired or revoked)."
    cure = "Send a valid key: 'authorization: Bearer mesh_…' or 'x-api-key: mesh_…'."

    def __init__(self, message: str = "missing or invalid credentials") -> None:
        super().__init__(message)


class ForbiddenError(MeshError):
    """A valid caller who may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "FORBIDDEN"
    cause = "The key is valid, but it lacks the scope that the call needs."
    cure = "Ask the operator for the scope."


class ModelNotFoundError(MeshError):
    """No such model or version, or none that the caller may use."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "MODEL_NOT_FOUND"
    cause = "The registry has no model of that name, alias or version that the caller may use."
    cure = "List the models (ListModels, GET /api/models) and correct the name."


class RequestTooLargeError(MeshError):
    """The message or body is larger than the limit."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "REQUEST_TOO_LARGE"
    cause = "The message, body or headers are larger than the limit (16 MiB a message by default)."
    cure = "Send less at once, or raise the limit on every hop; do not retry unchanged."


class QuotaError(MeshError):
    """A limit of the key, the tenant or the model is reached."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "QUOTA"
    cause = "A limit of the caller's key or tenant, or of the model, is reached; the message names it."
    cure = "Retry after the hint; `mesh explain` shows every limit and how it stands."


class RateLimitedError(QuotaError):
    """The caller sends more requests than it may."""

    reason = "RATE_LIMITED"
    cause = "The request rate is over a limit of the key, the tenant or the model."
    cure = "Wait as long as the retry hint says, then retry; or ask for a higher limit."


class ConcurrencyLimitedError(QuotaError):
    """The caller has more calls at once than it may."""

    reason = "CONCURRENCY_LIMITED"
    cause = "As many calls run at once as the key, the tenant or the model may have."
    cure = "Wait until one of them ends; use a pool of that size."


class TokenBudgetError(QuotaError):
    """The token budget is spent."""

    reason = "TOKEN_BUDGET_SPENT"
    cause = "The token budget of the key, the tenant or the model cannot hold the prompt and one token."
    cure = "Wait for the next window, as the retry hint says; ask for less, or for a larger budget."


class OverloadedError(MeshError):
    """The queue is full, or the request cannot be served in time."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"
    cause = "The model's queue is full, or the call would wait past its deadline."
    cure = "Retry after the hint with backoff; add replicas if it lasts."


class UnsupportedError(MeshError):
    """This model or service cannot do that."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason = "UNSUPPORTED"
    cause = "The model or the service behind it has no such function, e.g. streaming from an HTTP service."
    cure = "Use another call; the message says which."


class ModelNotReadyError(MeshError):
    """The model failed to load, and will not answer until something changes."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "MODEL_NOT_READY"
    cause = "The model's file is missing, damaged or not of the runtime; the worker's log says which."
    cure = "Repair or replace the file; the worker loads it again at its next start."


class DeadlineExceededError(MeshError):
    """The caller's time is over."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"
    cause = "The deadline passed before the answer was complete; work on it has stopped."
    cure = "Set a longer deadline, ask for less, or retry when the mesh is less busy."


class CancelledByCallerError(MeshError):
    """The caller left before the answer was complete."""

    code = grpc.StatusCode.CANCELLED
    reason = "CANCELLED"
    cause = "The caller cancelled or disconnected."
    cure = "Nothing to do."


class UnavailableError(MeshError):
    """Nobody can answer now; this very call may be retried."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "UNAVAILABLE"
    cause = "No healthy replica of the model could be reached."
    cure = "Retry with backoff; `mesh status` and /readyz say which replicas are missing."


class LimitsUnknownError(UnavailableError):
    """The shared limits cannot be asked, and the rule says to refuse then."""

    reason = "LIMITS_UNKNOWN"
    cause = "Redis, where the gateways share their limits, does not answer, and the limit's rule is 'refuse'."
    cure = "Retry with backoff; the operator sees mesh_gateway_ledger_up at 0."


class ShuttingDownError(UnavailableError):
    """This process is draining."""

    reason = "SHUTTING_DOWN"
    cause = "The process that took the call is shutting down and takes no new work."
    cure = "Retry at once: another replica answers."


class StreamBrokenError(UnavailableError):
    """The worker died in the middle of a stream: what arrived is right, but not all."""

    reason = "STREAM_BROKEN"
    cause = "The connection to the worker broke after the first message of a stream."
    cure = "Send the request again; for generate, delivered_tokens resumes where it broke."


class InternalError(MeshError):
    """A fault of ours; the log has it under the request's id."""

    reason = "INTERNAL"
    cause = "A defect in the mesh; the log has the details under the request's id."
    cure = "Report it with the request's id."

    def __init__(self, message: str = "internal error") -> None:
        super().__init__(message)


HTTP_STATUS: dict[grpc.StatusCode, int] = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
}
"""HTTP status of each gRPC code. Source: the comments of google/rpc/code.proto."""


def http_status(error: MeshError) -> int:
    """The HTTP status of an error: its code's, but 413 for a request over the size limit."""
    return 413 if isinstance(error, RequestTooLargeError) else HTTP_STATUS[error.code]


def all_error_classes() -> list[type[MeshError]]:
    """Every class with a reason of its own, parents before children, for docs/errors.md and the tests.

    A class without one is how one process words an error to itself; on the wire it is its parent.
    """
    found: list[type[MeshError]] = []
    waiting: list[type[MeshError]] = MeshError.__subclasses__()
    while waiting:
        current = waiting.pop(0)
        if "reason" in vars(current):
            found.append(current)
        waiting[:0] = current.__subclasses__()
    return found
