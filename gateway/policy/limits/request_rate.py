"""The requests of one rule: GCRA, alone or on leased arrival times. Pure, the clock passed in.

Owns the account of one gateway. GCRA gives each request a theoretical arrival time, one
interval apart; a request may come at most the tolerance before its own, never after it. A lease
is a stretch of those times: each is good until it passes, so that what several gateways admit
keeps the limit exactly, and what nobody used lapses by itself. Source: ITU-T I.371, annex A.
"""

from __future__ import annotations

import math

from gateway.policy.facts import Cost, Standing
from gateway.policy.limits.lease import (
    ASK,
    GONE,
    LEASED,
    OWN,
    ROOM,
    UNKNOWN_RETRY_S,
    Answer,
    Received,
    Report,
    Terms,
)
from gateway.policy.limits.rules import LimitRule

ROUNDING_S = 1e-9
"""Slack for the clock's floating point, so that the moment of the hint itself is admitted."""
ASKED_FOR_S = 0.05
"""How long what a waiting call was granted is kept for it."""


class RequestRate:
    """Owns the arrival times of one rate limit."""

    __slots__ = (
        "_asked_for",
        "_asked_until_s",
        "_end_s",
        "_from_share",
        "_reached_s",
        "_reached_us",
        "_reported",
        "_share_s",
        "_start_s",
        "rule",
    )

    def __init__(self, rule: LimitRule) -> None:
        self.rule = rule
        self._reached_s = -math.inf  # arrival time of the next request of all gateways, as far as known
        self._reached_us = 0.0  # the same in the ledger's clock
        self._start_s = self._end_s = -math.inf  # what is leased of it
        self._asked_for, self._asked_until_s = 0, -math.inf
        self._share_s = -math.inf  # arrival time in this gateway's share of the rate
        self._from_share = self._reported = 0

    def check(self, cost: Cost, now_s: float, terms: Terms) -> float:
        """ROOM if a request may come now, ASK if the ledger should say, else the wait in seconds."""
        source, rule = terms.source, self.rule
        wait_s = self._reached_s - now_s - rule.window_s + rule.interval_s
        if source is OWN:
            return ROOM if wait_s <= ROUNDING_S else wait_s
        if self._has_leased(now_s):
            return ROOM
        if source is GONE:
            return self._check_alone(now_s, terms)
        if wait_s > ROUNDING_S:
            return wait_s
        return ASK if source is LEASED else rule.interval_s

    def take(self, tokens: int, now_s: float, terms: Terms) -> None:
        """Count one request, after a check found room."""
        interval_s = self.rule.interval_s
        if terms.source is OWN:
            self._reached_s = max(self._reached_s, now_s) + interval_s
            return
        if self._asked_for > 0 and now_s < self._asked_until_s:
            self._asked_for -= 1
        elif self._has_leased(now_s):
            self._start_s = max(self._start_s, now_s) + interval_s
        else:
            self._from_share += 1
        used_up_s = self._share_tolerance_s(terms) + interval_s * terms.replicas
        self._share_s = min(max(self._share_s, now_s) + interval_s * terms.replicas, now_s + used_up_s)

    @property
    def has_spare(self) -> bool:
        """Whether the ledger must be told something: what was admitted without it."""
        return self._from_share > 0

    def wish_of(self, cost: Cost) -> int:
        """What a call wants of the ledger."""
        return 1

    def give_back(self) -> None:
        """Nothing: arrival times lapse."""

    def trim(self) -> None:
        """Nothing: arrival times lapse."""

    def report(self, wished: int, now_s: float) -> Report:
        """What the ledger is told. wished: requests that wait."""
        self._reported = self._from_share
        debt = min(self._from_share, self.rule.amount)
        leased = self._leased(now_s)
        return Report(self.rule, need=max(wished - leased, 0), reached_us=self._reached_us, debt=debt)

    def apply(self, answer: Answer, received: Received) -> None:
        """Hold what the ledger says."""
        self._from_share -= self._reported
        self._reported = 0
        self._reached_us = answer.reached_us
        self._reached_s = answer.reached_us / 1e6 - received.behind_s
        if answer.granted <= 0:
            return
        kept = answer.total  # of what was granted, the requests that wait already
        self._asked_for = kept + (self._asked_for if received.now_s < self._asked_until_s else 0)
        self._asked_until_s = received.now_s + ASKED_FOR_S
        if answer.granted > kept:
            self._start_s = answer.start_us / 1e6 - received.behind_s + kept * self.rule.interval_s
            self._end_s = self._reached_s

    def is_idle(self, now_s: float) -> bool:
        """Whether forgetting it changes nothing."""
        latest_s = max(self._reached_s, self._end_s, self._share_s, self._asked_until_s)
        return latest_s <= now_s and self._from_share == 0

    def standing(self, now_s: float, terms: Terms) -> Standing:
        """How the limit stands; consumes nothing. A burst is what a window holds."""
        rule = self.rule
        is_degraded = terms.source is GONE
        early_s = max(self._reached_s - now_s, 0.0)
        left = math.floor((rule.window_s - early_s) / rule.interval_s + ROUNDING_S)
        if terms.source is not OWN:
            left += self._leased(now_s)
        if is_degraded:
            left = self._left_alone(now_s, terms)
        remaining = float(min(max(left, 0), rule.amount))
        return Standing(rule.name, "requests", rule.amount, remaining, rule.window_s, early_s, is_degraded)

    def _has_leased(self, now_s: float) -> bool:
        if self._asked_for > 0 and now_s < self._asked_until_s:
            return True
        return max(self._start_s, now_s) + self.rule.interval_s <= self._end_s + ROUNDING_S

    def _leased(self, now_s: float) -> int:
        asked_for = self._asked_for if now_s < self._asked_until_s else 0
        rest_s = self._end_s - max(self._start_s, now_s)
        return asked_for + (math.floor(rest_s / self.rule.interval_s + ROUNDING_S) if rest_s > 0 else 0)

    def _check_alone(self, now_s: float, terms: Terms) -> float:
        if self.rule.when_gone == "refuse":
            return UNKNOWN_RETRY_S
        wait_s = self._share_s - now_s - self._share_tolerance_s(terms)
        return ROOM if wait_s <= ROUNDING_S else wait_s

    def _share_tolerance_s(self, terms: Terms) -> float:
        """Tolerance of the share: its burst is the limit's divided by the gateways, but at least 1."""
        return max(self.rule.window_s - self.rule.interval_s * terms.replicas, 0.0)

    def _left_alone(self, now_s: float, terms: Terms) -> int:
        leased = self._leased(now_s)
        if self.rule.when_gone == "refuse":
            return leased
        interval_s = self.rule.interval_s * terms.replicas
        early_s = max(self._share_s - now_s, 0.0)
        return leased + math.floor((self._share_tolerance_s(terms) - early_s) / interval_s + 1 + ROUNDING_S)
