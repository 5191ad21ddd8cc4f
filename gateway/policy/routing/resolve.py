"""Which model and version a name means. Pure.

Owns the table of names and the choice among a model's versions: the one asked for, else the
canary's share, else by weight. How far a canary is stands in `canary`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping

from gateway.policy.facts import ANYONE, Caller, CallFacts, RefusalKind, Refuse, Route, RouteRule
from gateway.policy.routing.visibility import may_use
from gateway.policy.routing.weights import percent_of, sticky_weighted, weighted
from inference_mesh.config.model_traffic import CanarySpec
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.metadata import value_of

SHOWN_NAME_LENGTH = 64
MAX_STICKY_LENGTH = 256
"""Longer header values are cut there: who writes them only chooses for themselves."""
_VERSION = re.compile(r"[A-Za-z0-9._+-]{0,64}")
_HEADER = "header:"


@dataclasses.dataclass(frozen=True, slots=True)
class CanaryChoice:
    """What a canary gets now. weight: percent of the traffic, 0 to 100."""

    version: str
    weight: float


@dataclasses.dataclass(frozen=True, slots=True)
class Named:
    """What one name stands for.

    versions: all of them. taking, stable: the weights of those that get traffic without being
    asked for, with and without the canary's. only: the route where there is no choice.
    """

    entry: ModelEntry
    rule: RouteRule
    versions: tuple[str, ...]
    taking: Mapping[str, float]
    stable: Mapping[str, float]
    only: Route | None


Names = Mapping[str, Named]
HasReady = Callable[[str, str], bool]
CanaryOf = Callable[[ModelEntry], CanaryChoice | None]


def names_of(entries: Iterable[ModelEntry]) -> dict[str, Named]:
    """What each name and alias stands for; made once for each state of the registry."""
    found = {}
    for entry in entries:
        weights = {variant.version: variant.weight for variant in entry.variants}
        taking, stable = _taking(weights), _taking(stable_weights(entry))
        for name in (entry.name, *entry.aliases):
            rule = RouteRule.NAME if name == entry.name else RouteRule.ALIAS
            only = Route(entry, next(iter(weights)), rule) if len(weights) == 1 else None
            found[name] = Named(entry, rule, tuple(weights), taking, stable, only)
    return found


def resolve(
    facts: CallFacts, caller: Caller, names: Names, has_ready: HasReady, canary_of: CanaryOf, draw: float
) -> Route | Refuse:
    """Where a call goes, for a caller who may use it.

    has_ready: whether a model has a ready replica of a version. No choice falls on a version
    without one as long as another version that gets traffic has one; a version that is asked
    for by name is taken as it is. draw: uniform in [0, 1), for who stays with nothing.
    """
    if not facts.model:
        return Refuse(RefusalKind.INVALID, "model: is missing; the name of a model is required")
    if facts.version and _VERSION.fullmatch(facts.version) is None:
        return Refuse(RefusalKind.INVALID, "version: allowed are up to 64 of A-Z a-z 0-9 . _ + -")
    named = names.get(facts.model)
    if named is None or not may_use(caller.tenant, named.entry):
        shown = facts.model[:SHOWN_NAME_LENGTH]
        return Refuse(RefusalKind.MODEL_NOT_FOUND, f"there is no model {shown!r}")
    if facts.version:
        return _asked_for(facts.version, named)
    if named.only is not None:
        return named.only
    return _chosen(named, _sticky_value(named.entry.canary, facts, caller), has_ready, canary_of, draw)


def stable_weights(entry: ModelEntry) -> dict[str, float]:
    """The weights of the versions that a canary is compared with; of all, if there is no canary."""
    tried = entry.canary.version if entry.canary is not None else None
    return {one.version: one.weight for one in entry.variants if one.version != tried}


def _asked_for(version: str, named: Named) -> Route | Refuse:
    if version in named.versions:
        return Route(named.entry, version, RouteRule.VERSION)
    if named.only is not None and not named.only.version:
        return named.only  # the registry names no version: the worker judges the caller's
    known = ", ".join(f"'{one}'" for one in named.versions)
    return Refuse(
        RefusalKind.MODEL_NOT_FOUND, f"model '{named.entry.name}' has no version '{version}'; it has {known}"
    )


def _chosen(named: Named, sticky: str, has_ready: HasReady, canary_of: CanaryOf, draw: float) -> Route:
    """The version of a caller who asks for none."""
    entry = named.entry
    canary = canary_of(entry)
    if canary is None or entry.canary is None or canary.version != entry.canary.version:
        return _by_weight(entry, named.taking, sticky, has_ready, draw)
    stable = named.stable
    if canary.weight <= 0:
        return _by_weight(entry, stable, sticky, has_ready, draw)
    point = percent_of(f"{entry.name}\0{canary.version}", sticky) if sticky else draw * 100.0
    is_in_share = point < canary.weight
    is_ready = has_ready(entry.name, canary.version)
    is_stable_ready = _has_any_ready(entry.name, stable, has_ready)
    if is_in_share if is_ready == is_stable_ready else is_ready:
        rule = RouteRule.STICKY if sticky and is_in_share else RouteRule.CANARY
        return Route(entry, canary.version, rule)
    # What is left of the draw is uniform again.
    left = point / canary.weight if is_in_share else (point - canary.weight) / (100.0 - canary.weight)
    return _by_weight(entry, stable, sticky, has_ready, left)


def _has_any_ready(model: str, versions: Iterable[str], has_ready: HasReady) -> bool:
    for version in versions:  # noqa: SIM110  # `any` would make a generator for each call
        if has_ready(model, version):
            return True
    return False


def _by_weight(
    entry: ModelEntry, weights: Mapping[str, float], sticky: str, has_ready: HasReady, draw: float
) -> Route:
    if len(weights) == 1:
        return Route(entry, next(iter(weights)), RouteRule.STICKY if sticky else RouteRule.WEIGHT)
    ready = {version: weight for version, weight in weights.items() if has_ready(entry.name, version)}
    choices = ready or weights
    if sticky:
        return Route(entry, sticky_weighted(choices, entry.name, sticky), RouteRule.STICKY)
    return Route(entry, weighted(choices, draw), RouteRule.WEIGHT)


def _taking(weights: Mapping[str, float]) -> dict[str, float]:
    """The versions that get traffic without being asked for; all alike if none has a weight."""
    return {version: weight for version, weight in weights.items() if weight} or dict.fromkeys(weights, 1.0)


def _sticky_value(spec: CanarySpec | None, facts: CallFacts, caller: Caller) -> str:
    """What keeps a caller with one version; empty = nothing does."""
    if spec is None or spec.sticky == "none":
        return ""
    if spec.sticky.startswith(_HEADER):
        return (value_of(facts.metadata, spec.sticky.removeprefix(_HEADER)) or "")[:MAX_STICKY_LENGTH]
    if spec.sticky == "key" and caller.key_id:
        return f"key:{caller.key_id}"
    # A token and a certificate have no key; nobody in particular is not to stay all together.
    return "" if caller.tenant is ANYONE else f"tenant:{caller.tenant.name}"
