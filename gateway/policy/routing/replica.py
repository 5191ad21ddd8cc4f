"""What the choice among a model's replicas knows of one: its load and its conduct. Pure.

Owns the counts; times are seconds of a monotonic clock and come from outside.
"""

from __future__ import annotations

import math

from mypy_extensions import mypyc_attr

from gateway.policy.routing.affinity import address_hash
from gateway.policy.routing.outliers import Conduct
from gateway.policy.routing.pick import load_of, others_work
from gateway.policy.routing.slow_start import RAMP_S, share_of
from inference_mesh.load_report import LoadReport

DEFAULT_SLOTS = 16
"""Calls that a replica is taken to hold at once until it says how many."""


@mypyc_attr(allow_interpreted_subclasses=True)  # a class that has a connection extends it
class Replica:
    """One replica, named by its address.

    outstanding: calls that it works on for this gateway. slots: calls that it can work on at
    once; None = it did not say.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.address_hash = address_hash(address)
        self.outstanding = 0
        self.slots: int | None = None
        self.conduct = Conduct()
        self._ready_since_s = -math.inf
        self._others = 0
        self._reported_s = -math.inf

    def note_report(self, report: LoadReport, now_s: float) -> None:
        """Take over what it says of its load: whatever is not ours is others'."""
        self._others = max(0, report.queued + report.running - self.outstanding)
        self._reported_s = now_s
        if report.slots:
            self.slots = report.slots

    def come_back(self, now_s: float) -> None:
        """It became healthy now."""
        self._ready_since_s = now_s
        self._others = 0
        self.conduct.come_back(now_s)

    def work(self, now_s: float) -> float:
        """Calls at the replica: ours, and what is left of others'."""
        if not self._others:
            return float(self.outstanding)
        return self.outstanding + others_work(self._others, now_s - self._reported_s)

    def weight(self, now_s: float) -> float:
        """How much it takes, in calls at once; less while it is new."""
        slots = self.slots or DEFAULT_SLOTS
        ready_s, ejected_s = self._ready_since_s, self.conduct.ejected_until_s
        ready_for_s = now_s - (max(ejected_s, ready_s))
        return slots if ready_for_s >= RAMP_S else slots * share_of(ready_for_s)

    def load(self, now_s: float) -> float:
        """How long one more call would wait there, in rounds of its slots."""
        return load_of(self.work(now_s), self.weight(now_s))
