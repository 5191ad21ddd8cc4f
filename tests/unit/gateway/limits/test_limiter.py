"""The limiter of one gateway alone: exact, all or nothing, and bounded in memory."""

from __future__ import annotations

import asyncio
import random

import pytest
from prometheus_client import CollectorRegistry

from gateway.limits.accounts import CALLS_KEPT
from gateway.limits.grant import Grant
from gateway.limits.limiter import Limiter
from gateway.limits.metrics import LimitMetrics
from gateway.policy.facts import Cost, RefusalKind, Refuse
from gateway.policy.limits.rules import LimitRule
from inference_mesh.limit_standing import tightest

MINUTE_S = 60.0
BUDGET = LimitRule("tenant:acme:tokens", "tokens", "tenant", 1000, MINUTE_S)
CALLS = LimitRule("key:abcdefgh:concurrency", "concurrency", "key", 2)
RATE = LimitRule("key:abcdefgh:requests", "requests", "key", 3, 3.0, 1.0)
STREAMS = 64


def limiter(*, phase_s: float = 0.0) -> Limiter:
    return Limiter(LimitMetrics(CollectorRegistry()), window_phase_s=phase_s)


def granted(outcome: Grant | Refuse | None) -> Grant:
    assert isinstance(outcome, Grant)
    return outcome


def refused(outcome: Grant | Refuse | None) -> Refuse:
    assert isinstance(outcome, Refuse)
    return outcome


def remaining(limits: Limiter, rule: LimitRule, now_s: float) -> float:
    return limits.standings((rule,), now_s)[0].remaining


async def test_64_parallel_streams_never_overshoot_a_budget_of_1000_and_refunds_are_exact() -> None:
    limits, choose, used = limiter(), random.Random(1), 0

    async def stream() -> int:
        """A stream that meters each token, stops at its grant, and may break off or be cancelled."""
        outcome = await limits.acquire((BUDGET,), Cost(10, 40), 0.0)
        if isinstance(outcome, Refuse):
            return 0
        exact_prompt = choose.randint(1, 10)
        spent = exact_prompt
        try:
            await asyncio.sleep(0)
            outcome.prompt_is(exact_prompt, 0.0)
            for _ in range(choose.randint(0, 40)):
                if spent == outcome.token_total:
                    break
                spent += 1
                await asyncio.sleep(0)
        finally:
            outcome.settle(spent, 0.0)
        return spent

    for _ in range(20):
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(stream()) for _ in range(STREAMS)]
        used += sum(one.result() for one in streams)
        assert used <= BUDGET.amount
        assert remaining(limits, BUDGET, 0.0) == BUDGET.amount - used
    assert used > BUDGET.amount - 11


def test_parallel_reservations_are_admitted_only_as_far_as_the_budget_holds_them_all() -> None:
    limits = limiter()
    outcomes = [limits.try_acquire((BUDGET,), Cost(10, 40), 0.0) for _ in range(STREAMS)]
    totals = [one.token_total or 0 for one in outcomes if isinstance(one, Grant)]
    assert sum(totals) == BUDGET.amount
    assert all(one.kind is RefusalKind.TOKEN_BUDGET for one in outcomes if isinstance(one, Refuse))


def test_an_answer_is_clamped_when_the_budget_holds_the_prompt_but_not_the_whole_wish() -> None:
    limits = limiter()
    granted(limits.try_acquire((BUDGET,), Cost(900, 50), 0.0))
    clamped = granted(limits.try_acquire((BUDGET,), Cost(10, 100), 0.0))
    assert (clamped.completion_tokens, clamped.token_total, clamped.is_clamped) == (40, 50, True)


def test_a_budget_that_holds_the_prompt_and_no_token_more_refuses() -> None:
    limits = limiter()
    granted(limits.try_acquire((BUDGET,), Cost(990, 0), 0.0))
    refusal = refused(limits.try_acquire((BUDGET,), Cost(10, 5), 1.0))
    assert refusal.retry_after_s == MINUTE_S - 1.0
    granted(limits.try_acquire((BUDGET,), Cost(10, 0), 1.0))


def test_a_prompt_that_no_window_can_hold_gets_no_hint_to_retry() -> None:
    refusal = refused(limiter().try_acquire((BUDGET,), Cost(1000, 1), 0.0))
    assert (refusal.kind, refusal.retry_after_s) == (RefusalKind.TOKEN_BUDGET, None)


def test_the_smallest_of_several_budgets_clamps_the_answer() -> None:
    small = LimitRule("model:chat:tokens", "tokens", "model", 60, 3600.0)
    limits = limiter()
    grant = granted(limits.try_acquire((BUDGET, small), Cost(20, 500), 0.0))
    assert grant.completion_tokens == 40
    assert remaining(limits, BUDGET, 0.0) == 940


def test_a_refused_call_takes_nothing_from_any_limit() -> None:
    limits = limiter()
    rules = (RATE, CALLS, BUDGET)
    granted(limits.try_acquire((CALLS,), Cost(), 0.0))
    granted(limits.try_acquire((CALLS,), Cost(), 0.0))
    before = limits.standings(rules, 0.0)
    refusal = refused(limits.try_acquire(rules, Cost(10, 10), 0.0))
    assert refusal.kind is RefusalKind.TOO_MANY_AT_ONCE
    assert refusal.standings[0].name == CALLS.name
    assert limits.standings(rules, 0.0) == before


def test_a_settled_call_frees_its_place_once() -> None:
    limits = limiter()
    one, other = (granted(limits.try_acquire((CALLS,), Cost(), 0.0)) for _ in range(2))
    refused(limits.try_acquire((CALLS,), Cost(), 0.0))
    one.settle(0, 0.0)
    one.settle(0, 0.0)
    granted(limits.try_acquire((CALLS,), Cost(), 0.0))
    refused(limits.try_acquire((CALLS,), Cost(), 0.0))
    other.settle(0, 0.0)
    assert remaining(limits, CALLS, 0.0) == 1


def test_a_settlement_after_its_window_changes_nothing() -> None:
    limits = limiter()
    old = granted(limits.try_acquire((BUDGET,), Cost(100, 100), 0.0))
    granted(limits.try_acquire((BUDGET,), Cost(100, 100), MINUTE_S))
    old.settle(0, MINUTE_S)
    assert remaining(limits, BUDGET, MINUTE_S) == 800


def test_windows_follow_each_other_and_end_where_the_phase_says() -> None:
    limits = limiter(phase_s=50.0)
    granted(limits.try_acquire((BUDGET,), Cost(1000), 1.0))
    assert refused(limits.try_acquire((BUDGET,), Cost(1), 9.0)).retry_after_s == 1.0
    granted(limits.try_acquire((BUDGET,), Cost(1000), 10.0))
    refused(limits.try_acquire((BUDGET,), Cost(1), 69.9))
    granted(limits.try_acquire((BUDGET,), Cost(1000), 70.0))


def test_tokens_beyond_the_reservation_are_counted_as_far_as_there_is_room() -> None:
    limits = limiter()
    grant = granted(limits.try_acquire((BUDGET,), Cost(10, 10), 0.0))
    grant.settle(50, 0.0)
    assert remaining(limits, BUDGET, 0.0) == 950


def test_the_moment_of_the_hint_is_admitted_and_not_the_one_before() -> None:
    limits = limiter()
    for _ in range(RATE.amount):
        granted(limits.try_acquire((RATE,), Cost(), 5.0))
    refusal = refused(limits.try_acquire((RATE,), Cost(), 5.25))
    assert refusal.retry_after_s == pytest.approx(0.75)
    refused(limits.try_acquire((RATE,), Cost(), 5.99))
    granted(limits.try_acquire((RATE,), Cost(), 5.25 + (refusal.retry_after_s or 0)))


def test_standings_consume_nothing_and_keep_nothing() -> None:
    limits = limiter()
    requests, calls, tokens = limits.standings((RATE, CALLS, BUDGET), 7.0)
    assert (requests.remaining, calls.remaining, tokens.remaining) == (3, 2, 1000)
    assert (requests.window_s, calls.window_s, tokens.window_s) == (3.0, 0, MINUTE_S)
    assert (requests.reset_s, calls.reset_s, tokens.reset_s) == (0, 0, 0)
    assert len(limits) == 0


def test_standings_say_what_is_left_and_when_all_of_it_is_back() -> None:
    limits = limiter()
    grant = granted(limits.try_acquire((RATE, CALLS, BUDGET), Cost(10, 40), 10.0))
    requests, calls, tokens = grant.standings
    assert (requests.remaining, requests.reset_s) == (2, 1.0)
    assert (calls.remaining, tokens.remaining, tokens.reset_s) == (1, 950, 50.0)
    assert not any(standing.is_degraded for standing in grant.standings)


@pytest.mark.parametrize("seed", range(60))
def test_what_a_caller_is_told_are_the_tightest_of_all_standings(seed: int) -> None:
    rng = random.Random(seed)
    rules = [
        LimitRule(
            f"tenant:{number}:tokens", "tokens", "tenant", rng.choice((500, 1000)), rng.choice((10.0, 60.0))
        )
        for number in range(3)
    ]
    rules += [
        LimitRule(f"key:{number}:requests", "requests", "key", burst, float(burst), 1.0)
        for number in range(3)
        for burst in (rng.choice((20, 30)),)
    ]
    rules += [LimitRule(f"key:{one}:concurrency", "concurrency", "key", rng.choice((30, 40))) for one in "ab"]
    limits, now_s = limiter(), 0.0
    for _ in range(12):
        now_s += rng.random()
        some = tuple(rng.sample(rules, rng.randint(1, len(rules))))
        outcome = limits.try_acquire(some, Cost(rng.randint(0, 10), rng.randint(0, 20)), now_s)
        if isinstance(outcome, Grant):
            told = outcome.tightest
            assert told == tightest(outcome.standings)
            assert {one.kind for one in told} == {one.kind for one in some}
            outcome.settle(rng.randint(0, 20), now_s)


def test_a_limit_that_is_raised_in_the_file_applies_at_once_and_keeps_what_was_used() -> None:
    limits = limiter()
    granted(limits.try_acquire((BUDGET,), Cost(1000), 0.0))
    raised = LimitRule(BUDGET.name, "tokens", "tenant", 1500, MINUTE_S)
    refused(limits.try_acquire((raised,), Cost(501), 0.0))
    granted(limits.try_acquire((raised,), Cost(500), 0.0))


def test_memory_is_bounded_by_the_limits_in_use_not_by_those_ever_seen() -> None:
    limits, now_s = limiter(), 0.0
    for number in range(20_000):
        now_s += 1.0
        rules = (
            LimitRule(f"key:{number}:requests", "requests", "key", 10, 1.0, 0.1),
            LimitRule(f"key:{number}:concurrency", "concurrency", "key", 10),
            LimitRule(f"key:{number}:tokens", "tokens", "key", 1000, MINUTE_S),
        )
        granted(limits.try_acquire(rules, Cost(1, 1), now_s)).settle(2, now_s)
    assert len(limits) < len(rules) * (CALLS_KEPT + 1000)


def test_an_idle_caller_of_a_full_house_is_forgotten_and_one_in_use_is_not() -> None:
    limits = limiter()
    held = granted(limits.try_acquire((CALLS,), Cost(), 0.0))
    granted(limits.try_acquire((BUDGET,), Cost(10), 0.0)).settle(0, 0.0)
    for number in range(2 * CALLS_KEPT):
        rule = LimitRule(f"key:{number}:concurrency", "concurrency", "key", 1)
        granted(limits.try_acquire((rule,), Cost(), 0.0)).settle(0, 0.0)
    assert len(limits) <= CALLS_KEPT + 1000
    assert remaining(limits, CALLS, 0.0) == 1
    granted(limits.try_acquire((CALLS,), Cost(), 0.0))
    refused(limits.try_acquire((CALLS,), Cost(), 0.0))
    held.settle(0, 0.0)
    granted(limits.try_acquire((CALLS,), Cost(), 0.0))


def test_a_budget_whose_period_changed_in_the_file_is_counted_anew_by_all_callers() -> None:
    limits = limiter()
    others = LimitRule("key:other:concurrency", "concurrency", "key", 5)
    before, beside = (BUDGET,), (BUDGET, others)
    for rules in (before, beside):
        granted(limits.try_acquire(rules, Cost(100), 0.0))
    hourly = LimitRule(BUDGET.name, "tokens", "tenant", 1000, 3600.0)
    granted(limits.try_acquire((hourly,), Cost(300), 0.0))
    granted(limits.try_acquire((hourly, others), Cost(300), 0.0))
    assert remaining(limits, hourly, 0.0) == 400


def test_many_new_limits_of_one_call_are_all_kept() -> None:
    """A new account must not be forgotten for another one of the same call."""
    limits = limiter()
    rules = tuple(LimitRule(f"key:{number}:concurrency", "concurrency", "key", 1) for number in range(600))
    granted(limits.try_acquire(rules, Cost(), 0.0))
    assert all(remaining(limits, rule, 0.0) == 0 for rule in rules)


def test_a_call_without_limits_is_granted_what_it_asks_for() -> None:
    grant = granted(limiter().try_acquire((), Cost(10, 20), 0.0))
    assert (grant.completion_tokens, grant.token_total, grant.standings) == (20, None, ())
    grant.settle(30, 0.0)


def test_refusals_are_counted_by_kind_and_by_whose_limit_it_is() -> None:
    registry = CollectorRegistry()
    limits = Limiter(LimitMetrics(registry))
    refused(limits.try_acquire((BUDGET,), Cost(2000), 0.0))
    labels = {"kind": "tokens", "scope": "tenant"}
    assert registry.get_sample_value("mesh_gateway_limit_refusals_total", labels) == 1
