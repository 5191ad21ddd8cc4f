"""The tokens of one rule: used and still leased in the current window. Pure, the clock passed in.

Owns the account of one gateway. Invariant: 0 <= used <= taken, and what all gateways have taken
never exceeds the rule's amount. A reservation belongs to the window in which it was made.
"""

from __future__ import annotations

import math

from gateway.policy.facts import Cost, Standing
from gateway.policy.limits.lease import (
    ASK,
    ASKED,
    GONE,
    LEASED,
    OWN,
    ROOM,
    UNKNOWN_REMAINING,
    UNKNOWN_RETRY_S,
    UNKNOWN_WINDOW,
    Answer,
    Received,
    Report,
    Source,
    Terms,
    ceiling_without_ledger,
)
from gateway.policy.limits.room import Room
from gateway.policy.limits.rules import LimitRule

BOUNDARY_RETRY_S = 0.05
"""Hint at the end of a window that the ledger has not left yet."""
COMPETING_RETRY_S = 0.05
"""Hint where there was something left, and other calls had it first."""


class TokenWindow(Room):
    """Owns what is used and leased of one token budget. began_s, until_s: of its current window."""

    __slots__ = ("_lost", "_lost_at_us", "_phase_s", "began_s", "number")

    def __init__(self, rule: LimitRule, phase_s: float = 0.0) -> None:
        """phase_s: added to the clock before it is cut into windows; lets them end with the wall's hours."""
        super().__init__(rule)
        self.number = UNKNOWN_WINDOW
        self.began_s = -math.inf
        self._phase_s = phase_s
        self._lost, self._lost_at_us = 0, 0.0

    def check(self, cost: Cost, now_s: float, terms: Terms) -> float:
        """ROOM if the prompt and one token fit, ASK if the ledger should say, else the wait in seconds."""
        wish = cost.prompt_tokens + cost.completion_tokens
        if wish == 0:
            return ROOM
        source = terms.source
        if now_s >= self.until_s and not self._begin(now_s, source):
            return ASK if source is LEASED else BOUNDARY_RETRY_S
        return ROOM if self.has_room(wish, now_s) else self._check_short(cost, now_s, terms)

    def take(self, tokens: int, now_s: float, terms: Terms) -> None:
        """Reserve what a check found free."""
        self.drawn += tokens

    def charge(self, granted_s: float, tokens: int) -> None:
        """Count what a call used beyond its reservation of granted_s, as far as there is room."""
        if granted_s >= self.began_s:
            amount = min(tokens, max(self.free, 0))
            self.open_reserve()
            self.drawn += amount

    def wish_of(self, cost: Cost) -> int:
        """What a call of this cost wants to hold."""
        return cost.prompt_tokens + cost.completion_tokens

    def report(self, wished: int, now_s: float) -> Report:
        """What the ledger is told. wished: tokens that waiting calls want together."""
        need, wish = self._lacking(wished)
        lost, lost_at_us = self._lost, self._lost_at_us
        return Report(self.rule, self.number, self.taken, need, wish, self.free, lost, lost_at_us)

    def apply(self, answer: Answer, received: Received) -> None:
        """Hold what the ledger says; a new window begins when it says so."""
        if self.number not in (UNKNOWN_WINDOW, answer.number) and answer.number > self.number:
            self._empty(0, received.now_s)
        self.number = answer.number
        self.until_s = received.sent_s + answer.left_s
        self._raise_to(answer.total)
        self._lost, self._lost_at_us = answer.lost, received.ledger_us
        self._learn(answer, received)

    def is_idle(self, now_s: float) -> bool:
        """Whether forgetting it changes nothing."""
        return now_s >= self.until_s or self.taken == 0 or (self.is_alone and self.used == 0)

    def left(self, now_s: float, terms: Terms) -> int:
        """Tokens that may still be taken of the window; consumes nothing."""
        amount = self.rule.amount
        if now_s >= self.until_s:
            return amount
        if terms.source is OWN:
            left = self.free
        elif terms.source is GONE:
            shared = self._share(terms) if self.rule.when_gone == "share" else 0
            left = max(self.taken, shared) - self.used
        else:
            left = min(self.remaining, amount - self.taken) + self.free
        return min(max(left, 0), amount)

    def standing(self, now_s: float, terms: Terms) -> Standing:
        """How the budget stands; consumes nothing."""
        rule, left = self.rule, float(self.left(now_s, terms))
        reset_s = max(self.until_s - now_s, 0.0) if left < rule.amount else 0.0
        return Standing(rule.name, "tokens", rule.amount, left, rule.window_s, reset_s, terms.source is GONE)

    def _check_short(self, cost: Cost, now_s: float, terms: Terms) -> float:
        """The verdict where less than the wish is free."""
        if terms.source is GONE and self.rule.when_gone == "share":
            # A lease that the gateway grants itself, so that later reports of its total cover it.
            self._raise_to(self._share(terms))
        least = min(cost.prompt_tokens + cost.completion_tokens, cost.prompt_tokens + 1)
        if terms.source is LEASED and least <= self.rule.amount and not self.is_dry(now_s):
            return ASK
        return ROOM if self.free >= least else self._wait_s(least, now_s, terms)

    def _begin(self, now_s: float, source: Source) -> bool:
        """Go over to the window of this moment; False where only the ledger may say so."""
        if source in (LEASED, ASKED):
            return False
        is_first = self.number == UNKNOWN_WINDOW
        left_s = self._until_end(now_s)
        if source is OWN or is_first:
            self.number = self._number(now_s) if source is OWN else UNKNOWN_WINDOW
        else:
            self.number += 1 + math.floor((now_s - self.until_s) / self.rule.window_s)
        self.until_s = now_s + left_s
        self._empty(self.rule.amount if source is OWN else 0, now_s)
        self._contact_total = self._lost = 0
        self.remaining = UNKNOWN_REMAINING
        return True

    def _empty(self, leased: int, now_s: float) -> None:
        """Nothing of a new window is in use."""
        self.taken, self.reserve = leased, 0
        self.limit = self.drawn + leased
        self.began_s = now_s

    def _number(self, now_s: float) -> int:
        return math.floor((now_s + self._phase_s) / self.rule.window_s)

    def _until_end(self, now_s: float) -> float:
        """Rest of the window of a moment in seconds, above 0; the ledger's windows where it named one."""
        window_s = self.rule.window_s
        if self.number != UNKNOWN_WINDOW and math.isfinite(self.until_s):
            return window_s - (now_s - self.until_s) % window_s
        return window_s - (now_s + self._phase_s) % window_s

    def _share(self, terms: Terms) -> int:
        share = self.rule.amount // terms.replicas
        return ceiling_without_ledger(share, self._contact_total, self.remaining, terms.replicas)

    def _wait_s(self, least: int, now_s: float, terms: Terms) -> float:
        if least > self.rule.amount:
            return math.inf
        if terms.source is GONE and self.rule.when_gone == "refuse":
            return UNKNOWN_RETRY_S
        if terms.source is ASKED and not self.is_dry(now_s):
            return COMPETING_RETRY_S
        return max(self.until_s - now_s, 0.001)
