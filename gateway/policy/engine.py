"""The policy engine: owns what the decisions depend on, and takes them in order.

authenticate → size → resolve → authorise → rate. It is told facts and never the transport.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.policy.facts import Admit, Caller, CallFacts, KeyFacts, ModelFacts, RefusalKind, Refuse
from gateway.policy.identity.api_keys import authenticate, authorise
from gateway.policy.limits.gcra import RateLimiter
from gateway.policy.routing.resolve import names_of, resolve

INFER_SCOPE = "infer"


class PolicyEngine:
    """Owns models, keys and rates; every data path asks the same one."""

    def __init__(self, *, requires_key: bool, max_message_bytes: int) -> None:
        self._requires_key = requires_key
        self._max_message_bytes = max_message_bytes
        self._names: dict[str, ModelFacts] = {}
        self._models: tuple[ModelFacts, ...] = ()
        self._keys: dict[str, KeyFacts] = {}
        self._rates = RateLimiter()

    @property
    def models(self) -> tuple[ModelFacts, ...]:
        """Every model, sorted by name."""
        return self._models

    def replace_models(self, models: Iterable[ModelFacts]) -> None:
        """Decide by these models from now on."""
        self._models = tuple(sorted(models, key=lambda model: model.name))
        self._names = names_of(self._models)

    def replace_keys(self, keys: Iterable[KeyFacts]) -> None:
        """Accept these keys from now on; a key that stays keeps its rate."""
        self._keys = {key.id: key for key in keys}
        self._rates.keep_only(frozenset(self._keys))

    def identify(self, credential: str | None, wall_time_s: float) -> Caller | Refuse:
        """Who sends this credential. All refusals read the same."""
        if not self._requires_key:
            return Caller()
        key = authenticate(credential, self._keys, wall_time_s)
        if key is None:
            return Refuse(RefusalKind.UNAUTHENTICATED, "missing or invalid credentials")
        return Caller(key.id, key.tenant, key.scopes, key.limit)

    def find(self, name: str, version: str) -> ModelFacts | Refuse:
        """The model of a name or alias."""
        return resolve(name, version, self._names)

    def admit(self, facts: CallFacts) -> Admit | Refuse:
        """Whether the call may go on, and to which model."""
        caller = self.identify(facts.credential, facts.wall_time_s)
        if isinstance(caller, Refuse):
            return caller
        if facts.size_bytes > self._max_message_bytes:
            return self._too_large()
        model = self.find(facts.model, facts.version)
        if isinstance(model, Refuse):
            return model
        refusal = authorise(caller, INFER_SCOPE) or self.charge(caller, facts.now_s)
        return refusal or Admit(caller, model, model.version)

    def admit_more(
        self, credential: str | None, size_bytes: int, now_s: float, wall_time_s: float
    ) -> Refuse | None:
        """A refusal of one more request on an open stream: its key may have been revoked since."""
        caller = self.identify(credential, wall_time_s)
        if isinstance(caller, Refuse):
            return caller
        if size_bytes > self._max_message_bytes:
            return self._too_large()
        return authorise(caller, INFER_SCOPE) or self.charge(caller, now_s)

    def charge(self, caller: Caller, now_s: float) -> Refuse | None:
        """Count one request of a caller; a refusal if it comes too soon."""
        if caller.limit is None:
            return None
        verdict = self._rates.take(caller.key_id, caller.limit, now_s)
        if verdict.is_admitted:
            return None
        return Refuse(
            RefusalKind.RATE_LIMITED,
            f"more than {caller.limit.rate:g} requests per second",
            verdict.retry_after_s,
        )

    def _too_large(self) -> Refuse:
        return Refuse(RefusalKind.TOO_LARGE, f"the message is over {self._max_message_bytes} bytes")
