"""The models as one caller sees them: those that the policy lets the caller use, and no others."""

from __future__ import annotations

from collections.abc import Callable

from gateway.front.refusals import error_of
from gateway.policy.engine import PolicyEngine
from gateway.policy.facts import Caller, CallFacts, Refuse
from gateway.upstream.fleet import Fleet, Model
from inference_mesh.errors import ModelNotFoundError


class VisibleModels:
    """Finds models for callers."""

    def __init__(self, policy: PolicyEngine, fleet: Fleet, draw: Callable[[], float]) -> None:
        """draw: a random number in [0, 1), for the choice among a model's versions."""
        self._policy = policy
        self._fleet = fleet
        self._draw = draw

    def has_any(self) -> bool:
        """Whether there is a model at all, whoever may use it."""
        return bool(self._fleet.models)

    def models(self, caller: Caller) -> list[Model]:
        """The first version of every model, sorted by name."""
        names = self._names(caller)
        return [model for model in self._fleet.models if model.entry.name in names]

    def targets(self, caller: Caller) -> list[Model]:
        """Every version of every model, sorted by name, the versions in the order of the registry."""
        names = self._names(caller)
        return [target for target in self._fleet.targets if target.entry.name in names]

    def versions(self, caller: Caller, name: str) -> list[Model]:
        """Every version of the model of a name. Raises ModelNotFoundError, InvalidInputError."""
        found = self.find(caller, name, "").entry.name
        return [target for target in self._fleet.targets if target.entry.name == found]

    def find(self, caller: Caller, name: str, version: str) -> Model:
        """The model of a name or alias. Raises ModelNotFoundError, InvalidInputError."""
        route = self._policy.find(caller, CallFacts(name, version, 0, 0.0, 0.0), self._draw())
        if isinstance(route, Refuse):
            raise error_of(route)
        model = self._fleet.target(route.model.name, route.version)
        if model is None:
            raise ModelNotFoundError(f"there is no model '{route.model.name}'")
        return model

    def _names(self, caller: Caller) -> set[str]:
        return {entry.name for entry in self._policy.visible_to(caller)}
