"""What the queue of a model is told of a call that wants its turn."""

from __future__ import annotations

from typing import NamedTuple

from gateway.policy.facts import Priority


class EntryFacts(NamedTuple):
    """One call at the door.

    tenant, weight: whose share it takes, and how large that is. cost: tokens that it may use,
    at least 1. deadline_s: the caller's own, or before it the end of the model's longest call, on
    the clock that `now_s` is of; None = the caller set none, and the queue's longest wait applies.
    """

    tenant: str
    weight: float
    priority: Priority
    cost: int
    deadline_s: float | None = None
