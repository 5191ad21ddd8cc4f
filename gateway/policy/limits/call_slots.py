"""The calls at the same time of one rule: held and still leased. Pure, the clock passed in.

Owns the account of one gateway. Invariant: 0 <= held <= taken while the lease lives, and what
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
    UNKNOWN_RETRY_S,
    Answer,
    Received,
    Report,
    Terms,
    ceiling_without_ledger,
)
from gateway.policy.limits.rules import LimitRule

DRY_S = 0.1
"""How long the ledger is not asked again after it had nothing left."""
RETRY_S = 1.0
"""Hint where a call must end first; nobody knows when one will."""
LEASE_S = 4.0
"""How long spare slots may be used without word from the ledger, which takes them back after 5 s."""


class CallSlots:
    """Owns what is held and leased of one concurrency limit."""

    __slots__ = (
        "_contact_total",
        "_dry_until_s",
        "_remaining",
        "_spent",
        "_valid_until_s",
        "held",
        "rule",
        "taken",
    )

    def __init__(self, rule: LimitRule) -> None:
        self.rule = rule
        self.held = 0
        self.taken = 0
        self._remaining: int | None = None
        self._contact_total = 0
        self._dry_until_s = -math.inf
        self._valid_until_s = -math.inf
        self._spent = 0

    def check(self, cost: Cost, now_s: float, terms: Terms) -> float:
        """ROOM if one more call fits, ASK if the ledger should say, else the wait in seconds."""
        source = terms.source
        if source is OWN:
            return ROOM if self.held < self.rule.amount else RETRY_S
        if self.held < self.taken and now_s < self._valid_until_s:
            return ROOM
        if source is GONE:
            return self._check_alone(now_s, terms)
        if source is LEASED and not self._is_dry(now_s):
            return ASK
        return RETRY_S

    def take(self, tokens: int, now_s: float, terms: Terms) -> None:
        """Hold one more call."""
        self.held += 1
        self._spent += 1

    def release(self) -> None:
        """One call less."""
        self.held -= 1

    @property
    def is_tight(self) -> bool:
        """Whether others may wait for what is given back."""
        return self._remaining is not None and self._remaining <= self.taken - self.held

    @property
    def has_spare(self) -> bool:
        """Whether something is leased: its lease must be renewed, in use or not."""
        return self.taken > 0 or self.held > 0

    def wish_of(self, cost: Cost) -> int:
        """What a call wants of the ledger."""
        return 1

    def give_back(self) -> None:
        """Keep nothing of the lease that is not in use; the next report says so."""
        self.taken = self.held

    def trim(self) -> None:
        """Keep of the lease no more than was taken since the last time; the next report says so."""
        self.taken = self.held + min(max(self.taken - self.held, 0), self._spent)
        self._spent = 0

    def report(self, wished: int, now_s: float) -> Report:
        """What the ledger is told. wished: slots that waiting calls want together."""
        if now_s >= self._valid_until_s:
            self.taken = self.held
        self.taken = max(self.taken, self.held)
        return Report(self.rule, total=self.taken, need=max(wished - (self.taken - self.held), 0))

    def apply(self, answer: Answer, received: Received) -> None:
        """Hold what the ledger says."""
        self.taken = max(self.taken, answer.total)
        self._remaining, self._contact_total = answer.remaining, answer.total
        self._valid_until_s = received.sent_s + LEASE_S
        if answer.remaining <= 0:
            self._dry_until_s = received.now_s + DRY_S

    def is_idle(self, now_s: float) -> bool:
        """Whether forgetting it changes nothing."""
        return self.held == 0 and self.taken == 0

    def standing(self, now_s: float, terms: Terms) -> Standing:
        """How the limit stands; consumes nothing."""
        amount, is_degraded = self.rule.amount, terms.source is GONE
        spare = max(self.taken - self.held, 0)
        if terms.source is OWN:
            left = amount - self.held
        elif is_degraded:
            shared = self._share(now_s, terms) if self.rule.when_gone == "share" else 0
            left = max(self._leased(now_s), shared) - self.held
        else:
            left = spare + (amount - self.taken if self._remaining is None else self._remaining)
        return Standing(
            self.rule.name, "concurrency", amount, float(min(max(left, 0), amount)), 0, 0, is_degraded
        )

    def _check_alone(self, now_s: float, terms: Terms) -> float:
        if self.rule.when_gone == "refuse":
            return UNKNOWN_RETRY_S
        if self.held >= self._share(now_s, terms):
            return RETRY_S
        self.taken = max(self._leased(now_s), self._share(now_s, terms))
        return ROOM

    def _leased(self, now_s: float) -> int:
        return self.taken if now_s < self._valid_until_s else self.held

    def _share(self, now_s: float, terms: Terms) -> int:
        share = self.rule.amount // terms.replicas
        known = self._remaining if now_s < self._valid_until_s else None
        return ceiling_without_ledger(share, self._contact_total, known, terms.replicas)

    def _is_dry(self, now_s: float) -> bool:
        return self._remaining is not None and self._remaining <= 0 and now_s < self._dry_until_s
