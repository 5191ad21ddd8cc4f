"""Which models are to leave the memory so that another one fits. Pure.

Owns the rule: the one that was asked for longest ago goes first; never one that is pinned, that
serves a call, or that is on its way in or out.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence


class Phase(enum.Enum):
    """Where a model is."""

    COLD = "cold"
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    FAILED = "failed"


IN_MEMORY = frozenset({Phase.LOADING, Phase.READY, Phase.UNLOADING})


@dataclasses.dataclass(frozen=True, slots=True)
class Resident:
    """A model as the rule sees it. used_at_s: when it was last asked for, in seconds of one clock."""

    name: str
    phase: Phase
    size_bytes: int
    used_at_s: float = 0.0
    in_flight: int = 0
    is_pinned: bool = False

    @property
    def may_leave(self) -> bool:
        """True if nothing speaks against giving it up."""
        return self.phase is Phase.READY and not self.in_flight and not self.is_pinned


@dataclasses.dataclass(frozen=True, slots=True)
class Budget:
    """What may be in memory together. models: their number; 0 = any."""

    size_bytes: int
    models: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Room:
    """What is to be done before a model is loaded.

    leaving: models to give up, first to last. fits: it fits once they have left; False = wait until
    something changes. never: not even an empty memory would hold it beside what is pinned.
    """

    leaving: tuple[str, ...] = ()
    fits: bool = True
    never: bool = False


def room_for(wanted: Resident, models: Sequence[Resident], budget: Budget) -> Room:
    """How the wanted model gets its place among the others."""
    others = [model for model in models if model.name != wanted.name]
    kept = [model for model in others if model.is_pinned]
    if not _fits(wanted, kept, budget):
        return Room(fits=False, never=True)
    inside = [model for model in others if model.phase in IN_MEMORY]
    leaving: list[str] = []
    for model in sorted(inside, key=lambda one: one.used_at_s):
        if _fits(wanted, inside, budget):
            break
        if model.may_leave:
            inside.remove(model)
            leaving.append(model.name)
    if _fits(wanted, inside, budget):
        return Room(tuple(leaving))
    return Room(fits=False)


def idle_models(models: Sequence[Resident], now_s: float, idle_s: float) -> list[str]:
    """The models that nobody asked for so long that they are given up; 0 s = none."""
    if not idle_s:
        return []
    return [model.name for model in models if model.may_leave and now_s - model.used_at_s >= idle_s]


def _fits(wanted: Resident, inside: Sequence[Resident], budget: Budget) -> bool:
    if budget.models and len(inside) >= budget.models:
        return False
    return wanted.size_bytes + sum(model.size_bytes for model in inside) <= budget.size_bytes
