"""What the choice among a model's replicas knows of one: its load and its conduct. Pure.

Owns the counts; times are seconds of a monotonic clock and come from outside.
"""

from __future__ import annotations

import hashlib
import math

from mypy_extensions import mypyc_attr

from gateway.policy.routing.outliers import Conduct
from gateway.policy.routing.slow_start import RAMP_S, share_of
from inference_mesh.load_report import LoadReport

REPORT_HALF_LIFE_S = 1.0
"""After so long half of what a report said of others' work is taken to be done."""
DEFAULT_SLOTS = 16
"""Calls that a replica is taken to hold at once until it says how many."""


@mypyc_attr(allow_interpreted_subclasses=True)  # a class that has a connection extends it
class Replica:
    """One replica, named by its address.

    outstanding: calls that it works on for this gateway. slots: calls that it can work on at
    once; None = it did not say. others: calls of others, as it said at reported_s.
    ready_since_s: when it became healthy.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.address_hash = address_hash(address)
        self.outstanding = 0
        self.slots: int | None = None
        self.conduct = Conduct()
        self.ready_since_s = -math.inf
        self.others = 0
        self.reported_s = -math.inf

    def note_report(self, report: LoadReport, now_s: float) -> None:
        """Take over what it says of its load: whatever is not ours is others'."""
        self.others = max(0, report.queued + report.running - self.outstanding)
        self.reported_s = now_s
        if report.slots:
            self.slots = report.slots

    def come_back(self, now_s: float) -> None:
        """It became healthy now."""
        self.ready_since_s = now_s
        self.others = 0
        self.conduct.come_back(now_s)


# As functions, because each call asks them of every replica: a method that another class may
# extend is looked up first, which takes longer than what it does.


def work_of(replica: Replica, now_s: float) -> float:
    """Calls at a replica: ours, and what is left of others'."""
    if not replica.others:
        return float(replica.outstanding)
    age_s = max(now_s - replica.reported_s, 0.0)
    return replica.outstanding + replica.others * math.pow(0.5, age_s / REPORT_HALF_LIFE_S)


def weight_of(replica: Replica, now_s: float) -> float:
    """How much a replica takes, in calls at once; less while it is new."""
    slots = replica.slots or DEFAULT_SLOTS
    ready_for_s = now_s - max(replica.conduct.ejected_until_s, replica.ready_since_s)
    return slots if ready_for_s >= RAMP_S else slots * share_of(ready_for_s)


def load_of(replica: Replica, now_s: float) -> float:
    """How long one more call would wait at a replica, in rounds of its slots."""
    return (work_of(replica, now_s) + 1.0) / weight_of(replica, now_s)


def address_hash(address: str) -> int:
    """32 bits that stand for a replica."""
    return int.from_bytes(hashlib.blake2b(address.encode(), digest_size=4).digest(), "little")
