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
    UNKNOWN_RETRY_S,
    UNKNOWN_WINDOW,
    Answer,
    Received,
    Report,
    Source,
    Terms,
    ceiling_without_ledger,
)
from gateway.policy.limits.rules import LimitRule

DRY_S = 0.1
"""How long the ledger is not asked again after it had nothing left."""
BOUNDARY_RETRY_S = 0.05
"""Hint at the end of a window that the ledger has not left yet."""
COMPETING_RETRY_S = 0.05
"""Hint where there was something left, and other calls had it first."""


class TokenWindow:
    """Owns what is used and leased of one token budget."""

    __slots__ = (
        "_contact_total",
        "_dry_until_s",
        "_known_at_us",
        "_phase_s",
        "_remaining",
        "_spent",
        "ends_at_s",
        "generation",
        "number",
        "rule",
        "taken",
        "used",
    )

    def __init__(self, rule: LimitRule, phase_s: float = 0.0) -> None:
        """phase_s: added to the clock before it is cut into windows; lets them end with the wall's hours."""
        self.rule = rule
        self.generation = 0
        self.number = UNKNOWN_WINDOW
        self.ends_at_s = -math.inf
        self.used = 0
        self.taken = 0
        self._phase_s = phase_s
        self._remaining: int | None = None
        self._contact_total = 0
        self._known_at_us = 0.0
        self._dry_until_s = -math.inf
        self._spent = 0

    def check(self, cost: Cost, now_s: float, terms: Terms) -> float:
        """ROOM if the prompt and one token fit, ASK if the ledger should say, else the wait in seconds."""
        wish = cost.prompt_tokens + cost.completion_tokens
        if wish == 0:
            return ROOM
        source = terms.source
        if now_s >= self.ends_at_s and not self._begin(now_s, source):
            return ASK if source is LEASED else BOUNDARY_RETRY_S
        free = (self.rule.amount if source is OWN else self.taken) - self.used
        return ROOM if free >= wish else self._check_short(cost, free, now_s, terms)

    def available(self, source: Source) -> int:
        """Tokens that may be reserved now, after a check."""
        return max(self._free(source), 0)

    def take(self, tokens: int, now_s: float, terms: Terms) -> None:
        """Reserve what a check found free."""
        self.used += tokens
        self._spent += tokens

    def refund(self, generation: int, tokens: int, now_s: float) -> bool:
        """Give back part of a reservation; False if the window in which it was made is over."""
        if generation != self.generation or now_s >= self.ends_at_s or tokens <= 0:
            return False
        self.used = max(self.used - tokens, 0)
        return True

    def charge(self, generation: int, tokens: int, source: Source) -> None:
        """Count what a call used beyond its reservation, as far as there is room."""
        if generation == self.generation:
            self.used += min(tokens, self.available(source))

    @property
    def is_tight(self) -> bool:
        """Whether others may wait for what is given back."""
        return self._remaining is not None and self._remaining <= self.taken - self.used

    @property
    def has_spare(self) -> bool:
        """Whether something is leased that is not in use."""
        return self.taken > self.used

    def wish_of(self, cost: Cost) -> int:
        """What a call of this cost wants to hold."""
        return cost.total

    def give_back(self) -> None:
        """Keep nothing of the lease that is not in use; the next report says so."""
        self.taken = self.used

    def trim(self) -> None:
        """Keep of the lease no more than was spent since the last time; the next report says so."""
        self.taken = self.used + min(max(self.taken - self.used, 0), self._spent)
        self._spent = 0

    def report(self, wished: int, now_s: float) -> Report:
        """What the ledger is told. wished: tokens that waiting calls want together."""
        need = max(wished - (self.taken - self.used), 0)
        known = -1 if self._remaining is None else self.rule.amount - self._remaining
        return Report(self.rule, self.number, self.taken, need, known, self._known_at_us)

    def apply(self, answer: Answer, received: Received) -> None:
        """Hold what the ledger says; a new window begins when it says so."""
        if self.number not in (UNKNOWN_WINDOW, answer.number) and answer.number > self.number:
            self.used = self.taken = 0
            self.generation += 1
        self.number = answer.number
        self.ends_at_s = received.sent_s + answer.left_s
        self.taken = max(self.taken, answer.total)
        self._remaining, self._contact_total = answer.remaining, answer.total
        self._known_at_us = received.ledger_us
        if answer.remaining <= 0:
            self._dry_until_s = received.now_s + DRY_S

    def is_idle(self, now_s: float) -> bool:
        """Whether forgetting it changes nothing."""
        return now_s >= self.ends_at_s or (self.used == 0 and self.taken == 0)

    def standing(self, now_s: float, terms: Terms) -> Standing:
        """How the budget stands; consumes nothing."""
        amount, left_s = self.rule.amount, self.ends_at_s - now_s
        if left_s <= 0:
            remaining, left_s = amount, self._until_end(now_s)
        elif terms.source is OWN:
            remaining = amount - self.used
        elif terms.source is GONE:
            shared = self._share(terms) if self.rule.when_gone == "share" else 0
            remaining = max(self.taken, shared) - self.used
        else:
            others = amount - self.taken if self._remaining is None else self._remaining
            remaining = others + self.taken - self.used
        is_degraded = terms.source is GONE
        left = float(min(max(remaining, 0), amount))
        reset_s = left_s if left < amount else 0.0
        return Standing(self.rule.name, "tokens", amount, left, self.rule.window_s, reset_s, is_degraded)

    def _free(self, source: Source) -> int:
        return (self.rule.amount if source is OWN else self.taken) - self.used

    def _check_short(self, cost: Cost, free: int, now_s: float, terms: Terms) -> float:
        """The verdict where less than the wish is free."""
        if terms.source is GONE and self.rule.when_gone == "share":
            # A lease that the gateway grants itself, so that later reports of its total cover it.
            self.taken = max(self.taken, self._share(terms))
            free = self.taken - self.used
        least = min(cost.total, cost.prompt_tokens + 1)
        if terms.source is LEASED and least <= self.rule.amount and not self._is_dry(now_s):
            return ASK
        return ROOM if free >= least else self._wait_s(least, now_s, terms)

    def _begin(self, now_s: float, source: Source) -> bool:
        """Go over to the window of this moment; False where only the ledger may say so."""
        if source in (LEASED, ASKED):
            return False
        is_first = self.number == UNKNOWN_WINDOW
        left_s = self._until_end(now_s)
        if source is OWN or is_first:
            self.number = self._number(now_s) if source is OWN else UNKNOWN_WINDOW
        else:
            self.number += 1 + math.floor((now_s - self.ends_at_s) / self.rule.window_s)
        self.ends_at_s = now_s + left_s
        self.used = self.taken = self._spent = self._contact_total = 0
        self.generation += 1
        self._remaining = None
        return True

    def _number(self, now_s: float) -> int:
        return math.floor((now_s + self._phase_s) / self.rule.window_s)

    def _until_end(self, now_s: float) -> float:
        """Rest of the window of a moment in seconds, above 0; the ledger's windows where it named one."""
        window_s = self.rule.window_s
        if self.number != UNKNOWN_WINDOW and math.isfinite(self.ends_at_s):
            return window_s - (now_s - self.ends_at_s) % window_s
        return window_s - (now_s + self._phase_s) % window_s

    def _is_dry(self, now_s: float) -> bool:
        return self._remaining is not None and self._remaining <= 0 and now_s < self._dry_until_s

    def _share(self, terms: Terms) -> int:
        share = self.rule.amount // terms.replicas
        return ceiling_without_ledger(share, self._contact_total, self._remaining, terms.replicas)

    def _wait_s(self, least: int, now_s: float, terms: Terms) -> float:
        if least > self.rule.amount:
            return math.inf
        if terms.source is GONE and self.rule.when_gone == "refuse":
            return UNKNOWN_RETRY_S
        if terms.source is ASKED and not self._is_dry(now_s):
            return COMPETING_RETRY_S
        return max(self.ends_at_s - now_s, 0.001)
