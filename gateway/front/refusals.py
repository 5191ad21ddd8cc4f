"""The one table from the policy's refusals to the errors that callers see."""

from __future__ import annotations

from gateway.policy.facts import RefusalKind, Refuse, Standing
from inference_mesh.errors import (
    ConcurrencyLimitedError,
    ForbiddenError,
    InvalidInputError,
    LimitsUnknownError,
    MeshError,
    ModelNotFoundError,
    OverloadedError,
    QuotaViolation,
    RateLimitedError,
    RequestTooLargeError,
    TokenBudgetError,
    UnauthenticatedError,
)

ERROR_CLASSES: dict[RefusalKind, type[MeshError]] = {
    RefusalKind.INVALID: InvalidInputError,
    RefusalKind.FORBIDDEN: ForbiddenError,
    RefusalKind.MODEL_NOT_FOUND: ModelNotFoundError,
    RefusalKind.TOO_LARGE: RequestTooLargeError,
    RefusalKind.RATE_LIMITED: RateLimitedError,
    RefusalKind.TOO_MANY_AT_ONCE: ConcurrencyLimitedError,
    RefusalKind.TOKEN_BUDGET: TokenBudgetError,
    RefusalKind.LIMITS_UNKNOWN: LimitsUnknownError,
    RefusalKind.QUEUE_FULL: OverloadedError,
    RefusalKind.TOO_LATE: OverloadedError,
}
UNITS = {"requests": "requests", "concurrency": "calls at once", "tokens": "tokens"}


def error_of(refusal: Refuse) -> MeshError:
    """The error that a refusal becomes; the limit that was reached is its first violation."""
    if refusal.kind is RefusalKind.UNAUTHENTICATED:
        return UnauthenticatedError(refusal.message)
    violations = tuple(_violation(standing) for standing in refusal.standings[:1])
    return ERROR_CLASSES[refusal.kind](
        refusal.message, retry_after_s=refusal.retry_after_s, violations=violations
    )


def _violation(standing: Standing) -> QuotaViolation:
    window = f" in {standing.window_s:g} s" if standing.window_s else ""
    return QuotaViolation(standing.name, f"{standing.limit:g} {UNITS[standing.kind]}{window}")
