"""Token windows under any order of reservations, refunds and passing time."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)
from prometheus_client import CollectorRegistry

from gateway.limits.grant import Grant
from gateway.limits.limiter import Limiter
from gateway.limits.metrics import LimitMetrics
from gateway.policy.facts import Cost
from gateway.policy.limits.rules import LimitRule

AMOUNT, WINDOW_S = 100, 10.0
BUDGET = LimitRule("tenant:acme:tokens", "tokens", "tenant", AMOUNT, WINDOW_S)
CALLS = LimitRule("tenant:acme:concurrency", "concurrency", "tenant", 5)

SMALL = st.integers(0, 60)


class Calls(RuleBasedStateMachine):
    """A ledger of plain sums beside the limiter: they must agree after every step."""

    grants: Bundle[tuple[Grant, int]] = Bundle("grants")

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.limits = Limiter(LimitMetrics(CollectorRegistry()))
        self.reserved: dict[int, int] = {}
        self.used: dict[int, int] = {}
        self.running = 0

    @property
    def window(self) -> int:
        return int(self.now_s // WINDOW_S)

    @property
    def taken(self) -> int:
        return self.reserved.get(self.window, 0) + self.used.get(self.window, 0)

    @rule(target=grants, prompt=SMALL, wish=SMALL)
    def acquire(self, prompt: int, wish: int) -> tuple[Grant, int] | MultipleResults[tuple[Grant, int]]:
        free = AMOUNT - self.taken
        fits = prompt + min(wish, 1) <= free and self.running < CALLS.amount
        outcome = self.limits.try_acquire((BUDGET, CALLS), Cost(prompt, wish), self.now_s)
        assert isinstance(outcome, Grant) == fits
        if not isinstance(outcome, Grant):
            return multiple()
        assert outcome.completion_tokens == min(wish, free - prompt)
        self.running += 1
        self.reserved[self.window] = self.reserved.get(self.window, 0) + (outcome.token_total or 0)
        return outcome, self.window

    @rule(grant=grants, exact=SMALL)
    def prompt_is(self, grant: tuple[Grant, int], exact: int) -> None:
        before = grant[0].token_total or 0
        grant[0].prompt_is(exact, self.now_s)
        after = grant[0].token_total or 0
        exactly = before if grant[0].is_clamped else exact + grant[0].completion_tokens
        assert after == min(before, exactly)
        if grant[1] == self.window:
            self.reserved[grant[1]] -= before - after

    @rule(grant=consumes(grants), share=st.floats(0, 1))
    def settle(self, grant: tuple[Grant, int], share: float) -> None:
        reserved = grant[0].token_total or 0
        used = int(reserved * share)
        grant[0].settle(used, self.now_s)
        grant[0].settle(0, self.now_s)
        self.running -= 1
        if grant[1] == self.window:
            self.reserved[grant[1]] -= reserved
            self.used[grant[1]] = self.used.get(grant[1], 0) + used

    @rule(seconds=st.sampled_from((0.0, 0.5, 3.0, WINDOW_S, 7 * WINDOW_S)))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def nothing_is_overshot_and_nothing_is_lost(self) -> None:
        assert 0 <= self.taken <= AMOUNT
        tokens, calls = self.limits.standings((BUDGET, CALLS), self.now_s)
        assert tokens.remaining == AMOUNT - self.taken
        assert calls.remaining == CALLS.amount - self.running


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
