"""How fast each caller may send: GCRA, the generic cell rate algorithm.

One number for each key: the theoretical arrival time of its next request. Never more than
`burst + rate * t` requests pass in any t seconds. Source: ITU-T I.371, annex A.
"""

from __future__ import annotations

import dataclasses

from gateway.policy.facts import RateLimit

ROUNDING_S = 1e-9
"""Slack for the clock's floating point, so that the moment of the hint itself is admitted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request passes. retry_after_s: 0 if it does."""

    is_admitted: bool
    retry_after_s: float


def gcra(arrival_s: float, now_s: float, limit: RateLimit) -> tuple[float, Verdict]:
    """The new theoretical arrival time, and the verdict on a request that comes now.

    arrival_s: the time of the last answer; minus infinity for a caller who is new.
    """
    interval_s = 1 / limit.rate
    tolerance_s = (limit.burst - 1) * interval_s
    arrival_s = max(arrival_s, now_s)
    early_s = arrival_s - now_s - tolerance_s
    if early_s > ROUNDING_S:
        return arrival_s, Verdict(is_admitted=False, retry_after_s=early_s)
    return arrival_s + interval_s, Verdict(is_admitted=True, retry_after_s=0.0)


class RateLimiter:
    """Owns the arrival times of all keys."""

    def __init__(self) -> None:
        self._arrivals: dict[str, float] = {}

    def take(self, key_id: str, limit: RateLimit, now_s: float) -> Verdict:
        """Count one request of a key."""
        arrival_s, verdict = gcra(self._arrivals.get(key_id, float("-inf")), now_s, limit)
        self._arrivals[key_id] = arrival_s
        return verdict

    def keep_only(self, key_ids: frozenset[str]) -> None:
        """Forget the keys that are no more."""
        self._arrivals = {key: value for key, value in self._arrivals.items() if key in key_ids}
