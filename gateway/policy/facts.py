"""The facts that the policy is told, and the decisions that it returns."""

from __future__ import annotations

import dataclasses
import enum


@dataclasses.dataclass(frozen=True, slots=True)
class RateLimit:
    """How many requests a caller may send.

    rate: requests per second, sustained, above 0. burst: requests that may come at once, at
    least 1.
    """

    rate: float
    burst: int


@dataclasses.dataclass(frozen=True, slots=True)
class KeyFacts:
    """One API key as the policy knows it.

    sha256: hash of the whole key, hex. expires_at_s: Unix time; None = never.
    """

    id: str
    sha256: str
    tenant: str
    scopes: frozenset[str]
    expires_at_s: float | None = None
    limit: RateLimit | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model of the registry as the policy knows it.

    version: empty = the registry names none, and the worker judges the caller's.
    """

    name: str
    version: str = ""
    aliases: tuple[str, ...] = ()
    timeout_s: float = 300.0


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. key_id: empty = nobody in particular."""

    key_id: str = ""
    tenant: str = ""
    scopes: frozenset[str] = frozenset({"infer"})
    limit: RateLimit | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class CallFacts:
    """What is known of a call before it is admitted.

    model, version: as the caller wrote them. credential: the API key's plain text. now_s: a
    monotonic clock. wall_time_s: Unix time.
    """

    model: str
    version: str
    credential: str | None
    size_bytes: int
    now_s: float
    wall_time_s: float


class RefusalKind(enum.Enum):
    """Why a call is refused."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    MODEL_NOT_FOUND = "model_not_found"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"


@dataclasses.dataclass(frozen=True, slots=True)
class Refuse:
    """The call ends here. message: for the caller; it has no internals."""

    kind: RefusalKind
    message: str
    retry_after_s: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Admit:
    """The call goes on: who sent it, and the model it goes to.

    version: the registry's; empty = it names none, and the worker judges the caller's.
    """

    caller: Caller
    model: ModelFacts
    version: str
