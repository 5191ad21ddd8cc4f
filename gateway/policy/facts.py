"""The facts that the policy is told, and the decisions that it returns."""

from __future__ import annotations

import dataclasses
import enum
from typing import NamedTuple

from inference_mesh.config.limits import LimitsSpec
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.config.tenants_file import Tenant
from inference_mesh.limit_standing import LimitStanding
from inference_mesh.metadata import Metadata

Standing = LimitStanding

UNLIMITED = LimitsSpec()
ANYONE = Tenant(name="anyone")
"""The tenant of callers where no credential is asked for."""


class Priority(enum.IntEnum):
    """The class in which a call waits; a lower number goes first."""

    HIGH = 0
    NORMAL = 1
    BULK = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the policy knows them once their credential is verified.

    key_id: of an API key; empty for a token, a certificate, or nobody in particular. limits:
    the key's own. salt: what workers keep the tenant's caches apart by; tells no name.
    expires_at_s: Unix time at which the credential ends; None = never.
    """

    key_id: str = ""
    tenant: Tenant = ANYONE
    scopes: frozenset[str] = frozenset({"infer"})
    limits: LimitsSpec = UNLIMITED
    salt: str = ""
    expires_at_s: float | None = None


class Credentials(NamedTuple):
    """What a call brings to say who sends it.

    text: an API key or a token; None = neither. certificate_names: subject alternative names
    of the client's verified certificate.
    """

    text: str | None = None
    certificate_names: tuple[str, ...] = ()


class Cost(NamedTuple):
    """What a request may use, before it ran.

    prompt_tokens: an upper bound, never below what the worker will count. completion_tokens:
    the longest answer that is asked for; 0 = the task makes none.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total(self) -> int:
        """Tokens of prompt and answer."""
        return self.prompt_tokens + self.completion_tokens


NO_COST = Cost()


class CallFacts(NamedTuple):
    """What is known of a call before it is admitted.

    model, version: as the caller wrote them. metadata: what came with the call; only the
    header that a canary is sticky by is read. now_s: a monotonic clock. wall_time_s: Unix time.
    """

    model: str
    version: str
    size_bytes: int
    now_s: float
    wall_time_s: float
    metadata: Metadata = ()


class RouteRule(enum.Enum):
    """Why a call goes to its target."""

    NAME = "name"
    ALIAS = "alias"
    VERSION = "version"
    WEIGHT = "weight"
    CANARY = "canary"
    STICKY = "sticky"
    FALLBACK = "fallback"


class Route(NamedTuple):
    """Where a call goes. version: empty = the registry names none, and the worker judges the caller's."""

    model: ModelEntry
    version: str
    rule: RouteRule = RouteRule.NAME


class RefusalKind(enum.Enum):
    """Why a call is refused."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    MODEL_NOT_FOUND = "model_not_found"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_AT_ONCE = "too_many_at_once"
    TOKEN_BUDGET = "token_budget"  # noqa: S105  # tokens of text
    LIMITS_UNKNOWN = "limits_unknown"
    QUEUE_FULL = "queue_full"
    TOO_LATE = "too_late"


@dataclasses.dataclass(frozen=True, slots=True)
class Refuse:
    """The call ends here. message: for the caller; it has no internals.

    standings: the limits that were met; the first is the one that refuses.
    """

    kind: RefusalKind
    message: str
    retry_after_s: float | None = None
    standings: tuple[Standing, ...] = ()


class Admit(NamedTuple):
    """The call goes on: who sent it, and the model it goes to.

    version: the registry's; empty = it names none, and the worker judges the caller's.
    """

    caller: Caller
    model: ModelEntry
    version: str
    rule: RouteRule = RouteRule.NAME
