"""The one table from the policy's refusals to the errors that callers see."""

from __future__ import annotations

from gateway.policy.facts import RefusalKind, Refuse
from inference_mesh.errors import (
    ForbiddenError,
    InvalidInputError,
    MeshError,
    ModelNotFoundError,
    RateLimitedError,
    RequestTooLargeError,
    UnauthenticatedError,
)

ERROR_CLASSES: dict[RefusalKind, type[MeshError]] = {
    RefusalKind.INVALID: InvalidInputError,
    RefusalKind.FORBIDDEN: ForbiddenError,
    RefusalKind.MODEL_NOT_FOUND: ModelNotFoundError,
    RefusalKind.TOO_LARGE: RequestTooLargeError,
    RefusalKind.RATE_LIMITED: RateLimitedError,
}


def error_of(refusal: Refuse) -> MeshError:
    """The error that a refusal becomes."""
    if refusal.kind is RefusalKind.UNAUTHENTICATED:
        return UnauthenticatedError(refusal.message)
    return ERROR_CLASSES[refusal.kind](refusal.message, retry_after_s=refusal.retry_after_s)
