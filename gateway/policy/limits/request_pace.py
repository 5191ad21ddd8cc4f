"""The requests of one rule that no other gateway shares: GCRA. Pure, the clock passed in.

GCRA gives each request a theoretical arrival time, one interval apart; a request may come at
most the tolerance before its own. Source: ITU-T I.371, annex A.
"""

from __future__ import annotations

import math

from gateway.policy.facts import Cost, Standing
from gateway.policy.limits.lease import ROOM, Terms
from gateway.policy.limits.rules import LimitRule

ROUNDING_S = 1e-9
"""Slack for the clock's floating point, so that the moment of the hint itself is admitted."""


class RequestPace:
    """Owns the arrival times of one rate limit. opens_s: from when the next request may come."""

    __slots__ = ("_ahead_s", "_interval_s", "_reached_s", "opens_s", "rule", "users")

    def __init__(self, rule: LimitRule) -> None:
        self._reached_s = -math.inf  # arrival time of the next request
        self.users = 0
        self.adopt(rule)

    def adopt(self, rule: LimitRule) -> None:
        """Go on with a rule that was read again from a file."""
        self.rule = rule
        self._interval_s = rule.interval_s
        self._ahead_s = rule.tolerance_s + ROUNDING_S
        self.opens_s = self._reached_s - self._ahead_s

    def check(self, cost: Cost, now_s: float, terms: Terms) -> float:
        """ROOM if a request may come now, else the wait in seconds."""
        return ROOM if now_s >= self.opens_s else self.opens_s + ROUNDING_S - now_s

    def take(self, tokens: int, now_s: float, terms: Terms) -> None:
        """Count one request, after a check found room."""
        self.pass_one(now_s)

    def pass_one(self, now_s: float) -> None:
        """Count one request of this moment."""
        reached_s = self._reached_s
        self._reached_s = reached_s = max(now_s, reached_s) + self._interval_s
        self.opens_s = reached_s - self._ahead_s

    def is_idle(self, now_s: float) -> bool:
        """Whether forgetting it changes nothing."""
        return self._reached_s <= now_s

    def left(self, now_s: float, terms: Terms) -> int:
        """Requests that may come now; consumes nothing. A burst is what a window holds."""
        rule = self.rule
        early_s = max(self._reached_s - now_s, 0.0)
        left = math.floor((rule.window_s - early_s) / self._interval_s + ROUNDING_S)
        return min(max(left, 0), rule.amount)

    def standing(self, now_s: float, terms: Terms) -> Standing:
        """How the limit stands; consumes nothing."""
        rule = self.rule
        early_s = max(self._reached_s - now_s, 0.0)
        left = float(self.left(now_s, terms))
        return Standing(rule.name, "requests", rule.amount, left, rule.window_s, early_s)
