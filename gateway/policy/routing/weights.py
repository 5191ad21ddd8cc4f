"""Choosing by weight: at random, or alike for whoever stays with one choice. Pure.

Whoever stays is known by a text, and every gateway chooses alike for it without shared state.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping

MAX_KEPT = 16_384
"""Values whose place is kept: most callers call again."""
_RANGE = float(1 << 53)


def weighted(weights: Mapping[str, float], draw: float) -> str:
    """The name in whose part of the weights' sum a draw from [0, 1) falls.

    Without any weight all names are alike. Raises ValueError if there is no name.
    """
    if not weights:
        raise ValueError("there is nothing to choose from")
    total = sum(weights.values())
    shares = weights if total else dict.fromkeys(weights, 1.0)
    left = draw * (total or len(weights))
    chosen = ""
    for name, weight in shares.items():
        if weight:
            chosen = name
            left -= weight
            if left < 0:
                break
    return chosen


def sticky_weighted(weights: Mapping[str, float], scope: str, value: str) -> str:
    """The name that a value stays with: it moves only if that name goes, or another gains weight.

    scope: keeps choices apart that have nothing to do with each other. Raises ValueError if
    there is no name.
    Source: weighted rendezvous hashing, Schindelhauer & Schomaker 2005.
    """
    if len(weights) == 1:
        return next(iter(weights))
    is_even = not any(weights.values())
    return max(weights, key=lambda name: _score(1.0 if is_even else weights[name], scope, name, value))


@functools.lru_cache(maxsize=MAX_KEPT)
def percent_of(scope: str, value: str) -> float:
    """Where a value stands in [0, 100): evenly spread, the same for ever."""
    return 100.0 * _fraction(scope, value)


def _score(weight: float, scope: str, name: str, value: str) -> float:
    if not weight:
        return -math.inf
    return -weight / math.log(_fraction(scope, name, value) or math.ulp(0.0))


def _fraction(*parts: str) -> float:
    """A number in [0, 1) that the parts decide."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / _RANGE
