"""The calls at the same time of one rule: held and still leased. Pure, the clock passed in.

Owns the account of one gateway. Invariant: 0 <= used <= taken while the lease lives, and what
all living gateways have taken never exceeds the rule's amount.
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
    UNKNOWN_REMAINING,
    UNKNOWN_RETRY_S,
    Answer,
    Received,
    Report,
    Terms,
    ceiling_without_ledger,
)
from gateway.policy.limits.room import LEASE_S, Room

RETRY_S = 1.0
"""Hint where a call must end first; nobody knows when one will."""


class CallSlots(Room):
    """Owns what is held and leased of one concurrency limit."""

    __slots__ = ()

    def be_alone(self) -> None:
        """No other gateway shares this limit: all of it is leased for good."""
        super().be_alone()
        self._raise_to(self.rule.amount)
        self.until_s = math.inf

    @property
    def has_spare(self) -> bool:
        """Whether something is leased: its lease must be renewed, in use or not."""
        return self.taken > 0

    def check(self, cost: Cost, now_s: float, terms: Terms) -> float:
        """ROOM if one more call fits, ASK if the ledger should say, else the wait in seconds."""
        if self.has_room(1, now_s):
            return ROOM
        source = terms.source
        if source is GONE:
            return self._check_alone(now_s, terms)
        if source is LEASED and not self.is_dry(now_s):
            return ASK
        return RETRY_S

    def take(self, tokens: int, now_s: float, terms: Terms) -> None:
        """Hold one more call."""
        self.drawn += 1

    def release(self) -> None:
        """One call less."""
        self.limit += 1

    def wish_of(self, cost: Cost) -> int:
        """What a call wants of the ledger."""
        return 1

    def report(self, wished: int, now_s: float) -> Report:
        """What the ledger is told. wished: slots that waiting calls want together."""
        if now_s >= self.until_s or self.free < 0:
            self._keep_free(0)
        need, wish = self._lacking(wished)
        return Report(self.rule, total=self.taken, need=need, wish=wish, spare=self.free)

    def apply(self, answer: Answer, received: Received) -> None:
        """Hold what the ledger says."""
        self._raise_to(answer.total)
        self.until_s = received.sent_s + LEASE_S
        self._learn(answer, received)

    def is_idle(self, now_s: float) -> bool:
        """Whether forgetting it changes nothing."""
        return self.used == 0 and (self.is_alone or self.taken == 0)

    def left(self, now_s: float, terms: Terms) -> int:
        """Calls that may begin now; consumes nothing."""
        amount = self.rule.amount
        if terms.source is OWN:
            left = self.free
        elif terms.source is GONE:
            shared = self._share(now_s, terms) if self.rule.when_gone == "share" else 0
            left = max(self._leased(now_s), shared) - self.used
        else:
            left = max(self.free, 0) + min(self.remaining, amount - self.taken)
        return min(max(left, 0), amount)

    def standing(self, now_s: float, terms: Terms) -> Standing:
        """How the limit stands; consumes nothing."""
        rule, left = self.rule, float(self.left(now_s, terms))
        return Standing(rule.name, "concurrency", rule.amount, left, 0, 0, terms.source is GONE)

    def _check_alone(self, now_s: float, terms: Terms) -> float:
        if self.rule.when_gone == "refuse":
            return UNKNOWN_RETRY_S
        share = self._share(now_s, terms)
        if self.used >= share:
            return RETRY_S
        # A lease that the gateway grants itself, so that later reports of its total cover it.
        self._keep_free(max(self._leased(now_s), share) - self.used)
        return ROOM

    def _leased(self, now_s: float) -> int:
        return self.taken if now_s < self.until_s else self.used

    def _share(self, now_s: float, terms: Terms) -> int:
        share = self.rule.amount // terms.replicas
        known = self.remaining if now_s < self.until_s else UNKNOWN_REMAINING
        return ceiling_without_ledger(share, self._contact_total, known, terms.replicas)
