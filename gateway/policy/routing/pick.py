"""Which replica gets a call: the less loaded one of two drawn at random. Pure.

Source: Mitzenmacher 2001, The Power of Two Choices in Randomized Load Balancing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from gateway.policy.routing.replica import Replica, load_of

R = TypeVar("R", bound=Replica)


def pick(candidates: Sequence[R], now_s: float, rng: random.Random) -> R | None:
    """The less loaded one of two; a tie goes to the first drawn.

    None if there is no candidate. A tie by name would leave the last replica cold whenever
    the traffic is light.
    """
    if not candidates:
        return None
    count = len(candidates)
    if count == 1:
        return candidates[0]
    drawn = int(rng.random() * count)
    first, second = candidates[drawn], candidates[(drawn + 1 + int(rng.random() * (count - 1))) % count]
    return second if load_of(second, now_s) < load_of(first, now_s) else first
