"""The requests of one rule that gateways share: leased, and admitted one by one. Pure.

Owns the account of one gateway. The ledger keeps the arrival time of the next request of all
gateways (GCRA, as `request_pace`), and counts what gateways have leased as not yet back in the
burst: so a leased request may come whenever the lease lives, and what all gateways admit in any
time never exceeds the burst and what the rate adds in that time.
"""

from __future__ import annotations

import math

from gateway.policy.facts import Cost, Standing
from gateway.policy.limits.lease import (
    ASK,
    GONE,
    LEASED,
    ROOM,
    UNKNOWN_RETRY_S,
    Answer,
    Received,
    Report,
    Terms,
)
from gateway.policy.limits.request_pace import ROUNDING_S
from gateway.policy.limits.room import LEASE_S, Room
from gateway.policy.limits.rules import LimitRule


class RequestLease(Room):
    """Owns the requests that one gateway may still admit of a rate limit."""

    __slots__ = (
        "_back",
        "_from_share",
        "_reached_s",
        "_reached_us",
        "_reported",
        "_share_drawn",
        "_share_s",
        "_ticked_s",
        "_told",
    )

    def __init__(self, rule: LimitRule) -> None:
        super().__init__(rule)
        self._reached_s = -math.inf  # arrival time of the next request of all gateways, as far as known
        self._reached_us = 0.0  # the same in the ledger's clock
        self._back = self._told = 0
        self._from_share = self._reported = 0
        self._share_s = -math.inf  # arrival time in this gateway's share of the rate
        self._share_drawn = 0  # of what was drawn, what counts in that already
        self._ticked_s = -math.inf

    @property
    def has_spare(self) -> bool:
        """Whether the ledger counts something for this gateway, or must be told of something."""
        return self._told > 0 or self.free > 0 or self._from_share > 0

    def check(self, cost: Cost, now_s: float, terms: Terms) -> float:
        """ROOM if a request may come now, ASK if the ledger should say, else the wait in seconds."""
        if self.has_room(1, now_s):
            return ROOM
        rule, source = self.rule, terms.source
        if source is GONE:
            return self._check_alone(now_s, terms)
        wait_s = self._reached_s - now_s - rule.tolerance_s
        if wait_s > ROUNDING_S:
            return wait_s
        return ASK if source is LEASED else rule.interval_s

    def take(self, tokens: int, now_s: float, terms: Terms) -> None:
        """Count one request, after a check found room."""
        if self.has_room(1, now_s):
            self.drawn += 1
        else:
            self._from_share += 1
            self._count_in_share(1, now_s, terms)

    def wish_of(self, cost: Cost) -> int:
        """What a call wants of the ledger."""
        return 1

    def trim(self) -> None:
        """Keep what the pace of the calls needs; the rest goes back."""
        before = self.free
        super().trim()
        self._back += before - self.free

    def give_back(self) -> None:
        """Keep nothing; the next report says so."""
        self._back += self.free
        super().give_back()

    def report(self, wished: int, now_s: float) -> Report:
        """What the ledger is told. wished: requests that wait.

        What goes back is told once: if that report is lost, it counts as admitted.
        """
        if now_s >= self.until_s:
            self._keep_free(0)
            self._back = 0
        back, self._back = self._back, 0
        self._ticked_s = now_s
        self._reported = self._from_share
        need, wish = self._lacking(wished)
        debt = min(self._from_share, self.rule.amount)
        return Report(
            self.rule,
            total=self.free,
            need=need,
            wish=wish,
            spare=self.free,
            reached_us=self._reached_us,
            debt=debt,
            back=back,
        )

    def apply(self, answer: Answer, received: Received) -> None:
        """Hold what the ledger says."""
        self._from_share -= self._reported
        self._reported = 0
        self._told = answer.total
        self._reached_us = answer.reached_us
        self._reached_s = answer.reached_us / 1e6 - received.behind_s
        self.limit += answer.granted
        self.until_s = received.sent_s + LEASE_S
        self._learn(answer, received)

    def is_idle(self, now_s: float) -> bool:
        """Whether forgetting it changes nothing."""
        return max(self._reached_s, self._share_s) <= now_s and not self.has_spare

    def left(self, now_s: float, terms: Terms) -> int:
        """Requests that may come now; consumes nothing. A burst is what a window holds."""
        rule = self.rule
        left = self.free if now_s < self.until_s else 0
        if terms.source is not GONE:
            early_s = max(self._reached_s - now_s, 0.0)
            left += math.floor((rule.window_s - early_s) / rule.interval_s + ROUNDING_S)
        elif rule.when_gone == "share":
            left += self._left_of_share(now_s, terms)
        return min(max(left, 0), rule.amount)

    def standing(self, now_s: float, terms: Terms) -> Standing:
        """How the limit stands; consumes nothing."""
        rule, left = self.rule, float(self.left(now_s, terms))
        early_s, is_degraded = max(self._reached_s - now_s, 0.0), terms.source is GONE
        return Standing(rule.name, "requests", rule.amount, left, rule.window_s, early_s, is_degraded)

    def _check_alone(self, now_s: float, terms: Terms) -> float:
        if self.rule.when_gone == "refuse":
            return UNKNOWN_RETRY_S
        # What was drawn before the last report counts at its time, what came since counts now.
        self._count_in_share(self._drawn_at_tick - self._share_drawn, self._ticked_s, terms)
        self._count_in_share(self.drawn - max(self._share_drawn, self._drawn_at_tick), now_s, terms)
        self._share_drawn = self.drawn
        wait_s = self._share_s - now_s - self._share_tolerance_s(terms)
        return ROOM if wait_s <= ROUNDING_S else wait_s

    def _count_in_share(self, count: int, at_s: float, terms: Terms) -> None:
        if count <= 0:
            return
        interval_s = self.rule.interval_s * terms.replicas
        used_up_s = at_s + self._share_tolerance_s(terms) + interval_s
        self._share_s = min(max(self._share_s, at_s) + count * interval_s, used_up_s)

    def _share_tolerance_s(self, terms: Terms) -> float:
        """Tolerance of the share: its burst is the limit's divided by the gateways, but at least 1."""
        return max(self.rule.window_s - self.rule.interval_s * terms.replicas, 0.0)

    def _left_of_share(self, now_s: float, terms: Terms) -> int:
        interval_s = self.rule.interval_s * terms.replicas
        early_s = max(self._share_s - now_s, 0.0)
        return math.floor((self._share_tolerance_s(terms) - early_s) / interval_s + 1 + ROUNDING_S)
