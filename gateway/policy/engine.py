"""The policy engine: owns what the decisions depend on, and takes them in order.

size → resolve → authorise → limits that apply. It is told facts and never the transport. Who
the caller is comes from `gateway.identity`, whether a limit has room from `gateway.limits`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from gateway.policy.facts import Admit, Caller, CallFacts, RefusalKind, Refuse, Route, RouteRule
from gateway.policy.limits.rules import LimitRule, rules_of
from gateway.policy.routing.resolve import CanaryChoice, Names, names_of, resolve
from gateway.policy.routing.visibility import may_use
from inference_mesh.config.models_file import ModelEntry

INFER_SCOPE = "infer"
ADMIN_SCOPE = "admin"
MAX_KEPT_RULES = 16_384

HasReady = Callable[[str, str], bool]
"""Whether a model has a ready replica of a version."""
CanaryOf = Callable[[ModelEntry], CanaryChoice | None]
"""How far the canary of a model is; None if it has none."""


class PolicyEngine:
    """Owns the models; every data path asks the same one."""

    def __init__(self, *, max_message_bytes: int, has_ready: HasReady, canary_of: CanaryOf) -> None:
        self._max_message_bytes = max_message_bytes
        self._has_ready = has_ready
        self._canary_of = canary_of
        self._models: tuple[ModelEntry, ...] = ()
        self._by_name: dict[str, ModelEntry] = {}
        self._names: Names = names_of(())
        self._rules: OrderedDict[tuple[int, int], tuple[Caller, ModelEntry, tuple[LimitRule, ...]]]
        self._rules = OrderedDict()

    @property
    def models(self) -> tuple[ModelEntry, ...]:
        """Every model, sorted by name."""
        return self._models

    def replace_models(self, entries: Iterable[ModelEntry]) -> None:
        """Decide by these models from now on."""
        self._models = tuple(sorted(entries, key=lambda entry: entry.name))
        self._by_name = {entry.name: entry for entry in self._models}
        self._names = names_of(self._models)
        self._rules.clear()

    def entry_of(self, name: str) -> ModelEntry | None:
        """The model of that very name; None if there is none."""
        return self._by_name.get(name)

    def visible_to(self, caller: Caller) -> tuple[ModelEntry, ...]:
        """The models that a caller may use, sorted by name."""
        return tuple(entry for entry in self._models if may_use(caller.tenant, entry))

    def admit(self, caller: Caller, facts: CallFacts, draw: float) -> Admit | Refuse:
        """Whether the call may go on, and where to. draw: uniform in [0, 1), for weights."""
        refusal = self.check_message(caller, facts.size_bytes)
        if refusal is not None:
            return refusal
        route = self.find(caller, facts, draw)
        return route if isinstance(route, Refuse) else Admit(caller, route.model, route.version, route.rule)

    def check_message(self, caller: Caller, size_bytes: int) -> Refuse | None:
        """A refusal of one message, as of one more on an open stream."""
        if size_bytes > self._max_message_bytes:
            return Refuse(RefusalKind.TOO_LARGE, f"the message is over {self._max_message_bytes} bytes")
        return authorise(caller, INFER_SCOPE)

    def find(self, caller: Caller, facts: CallFacts, draw: float) -> Route | Refuse:
        """Where a name and a version lead this caller."""
        return resolve(facts, caller, self._names, self._has_ready, self._canary_of, draw)

    def fallbacks_of(self, admitted: Admit, draw: float) -> tuple[Admit, ...]:
        """Where the call may go instead, in order: models that the caller may use."""
        found = []
        for name in admitted.model.fallback:
            facts = CallFacts(name, "", 0, 0.0, 0.0)
            route = self.find(admitted.caller, facts, draw)
            if isinstance(route, Route):
                found.append(Admit(admitted.caller, route.model, route.version, RouteRule.FALLBACK))
        return tuple(found)

    def rules_of(self, caller: Caller, entry: ModelEntry) -> tuple[LimitRule, ...]:
        """Every limit that applies to a caller's calls of a model."""
        key = (id(caller), id(entry))  # both live as long as this entry, which holds them
        kept = self._rules.get(key)
        if kept is not None:
            return kept[2]
        if len(self._rules) >= MAX_KEPT_RULES:
            self._rules.popitem(last=False)
        rules = rules_of(caller, entry)
        self._rules[key] = (caller, entry, rules)
        return rules


def authorise(caller: Caller, scope: str) -> Refuse | None:
    """A refusal if the caller lacks the scope."""
    if scope in caller.scopes:
        return None
    return Refuse(RefusalKind.FORBIDDEN, f"the credential lacks the scope '{scope}'")
