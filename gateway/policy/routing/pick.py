"""Which replica gets a call: the less loaded one of two drawn at random. Pure.

Source: Mitzenmacher 2001, The Power of Two Choices in Randomized Load Balancing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

REPORT_HALF_LIFE_S = 1.0
"""After so long half of what a report said of others' work is taken to be done."""


class Candidate(Protocol):
    """A replica that could take the call."""

    def load(self, now_s: float) -> float:
        """How long a call would wait there, in a measure that all replicas share."""


C = TypeVar("C", bound=Candidate)


def pick(candidates: Sequence[C], now_s: float, rng: random.Random) -> C | None:
    """The less loaded one of two; a tie goes to the first drawn.

    None if there is no candidate. A tie by name would leave the last replica cold whenever
    the traffic is light.
    """
    if not candidates:
        return None
    if len(candidates) == 1:
        return candidates[0]
    first, second = rng.sample(candidates, 2)
    return second if second.load(now_s) < first.load(now_s) else first


def others_work(reported: int, report_age_s: float) -> float:
    """Calls of other gateways at a replica, from what it reported so long ago."""
    return reported * math.pow(0.5, max(report_age_s, 0.0) / REPORT_HALF_LIFE_S)


def load_of(work: float, weight: float) -> float:
    """The load that one more call would meet. work: calls there; weight: how much it takes, above 0."""
    return (work + 1.0) / weight
