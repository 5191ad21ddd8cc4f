"""Which replica gets a call: the less busy one of two drawn at random.

Source: Mitzenmacher 2001, The Power of Two Choices in Randomized Load Balancing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """A replica that could take the call."""

    @property
    def outstanding(self) -> int:
        """Calls that it works on for us."""


C = TypeVar("C", bound=Candidate)


def pick(candidates: Sequence[C], rng: random.Random) -> C | None:
    """The one with fewer outstanding calls of two; a tie goes to the first drawn.

    None if there is no candidate. A tie by name would leave the last replica cold whenever
    the traffic is light.
    """
    if not candidates:
        return None
    first, second = rng.sample(candidates, 2) if len(candidates) > 1 else (candidates[0], candidates[0])
    return second if second.outstanding < first.outstanding else first
