"""Limits that gateways share: leases, and what holds while the ledger is late, silent or gone."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from prometheus_client import CollectorRegistry

from gateway.limits.grant import Grant
from gateway.limits.limiter import Limiter
from gateway.limits.metrics import LimitMetrics
from gateway.policy.facts import Cost, RefusalKind, Refuse
from gateway.policy.limits.rules import LimitRule
from inference_mesh.config.limits import WhenGone
from tests.fakes.memory_ledger import LedgerStore, MemoryLedger

REPLICAS = 3
DAY_S = 86_400.0
LIMIT_S = 5.0
PROBE = LimitRule("model:other:concurrency", "concurrency", "model", 10**6)


def budget(amount: int = 3000, when_gone: WhenGone = "share") -> LimitRule:
    return LimitRule("tenant:acme:tokens", "tokens", "tenant", amount, DAY_S, when_gone=when_gone)


def calls(amount: int = 30, when_gone: WhenGone = "share") -> LimitRule:
    return LimitRule("tenant:acme:concurrency", "concurrency", "tenant", amount, when_gone=when_gone)


def rate(burst: int = 30, when_gone: WhenGone = "share") -> LimitRule:
    return LimitRule("tenant:acme:requests", "requests", "tenant", burst, burst * 60.0, 60.0, when_gone)


@contextlib.asynccontextmanager
async def running(ledger: MemoryLedger, registry: CollectorRegistry | None = None) -> AsyncIterator[Limiter]:
    limits = Limiter(LimitMetrics(registry or CollectorRegistry()), ledger, replicas=REPLICAS)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(limits.run())
        try:
            assert await limits.wait_until_known(LIMIT_S)
            yield limits
        finally:
            ledger.is_open.set()
            task.cancel()


async def acquire(limits: Limiter, rule: LimitRule, tokens: int = 1) -> Grant | Refuse:
    return await limits.acquire((rule,), Cost(0, tokens), time.monotonic())


async def admitted(limits: Limiter, rule: LimitRule, *, times: int, tokens: int = 1) -> int:
    """Calls that are admitted, of so many; none is settled."""
    outcomes = [await acquire(limits, rule, tokens) for _ in range(times)]
    return sum(isinstance(outcome, Grant) for outcome in outcomes)


async def until_degraded(limits: Limiter) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not limits.is_degraded:
            await acquire(limits, PROBE)
            await asyncio.sleep(0.01)


async def until_known(limits: Limiter) -> None:
    async with asyncio.timeout(LIMIT_S):
        while limits.is_degraded:
            await asyncio.sleep(0.01)


async def test_two_gateways_share_every_kind_of_limit_exactly() -> None:
    store = LedgerStore(replicas=REPLICAS)
    async with running(MemoryLedger(store, "one")) as one, running(MemoryLedger(store, "two")) as two:
        for rule in (budget(30), calls(), rate()):
            counts = [await admitted(limits, rule, times=1) for _ in range(30) for limits in (one, two)]
            # What one has leased and did not use is back with its next tick, or has lapsed.
            assert 30 - 30 // (2 * REPLICAS) <= sum(counts) <= 30


async def test_most_calls_need_no_exchange() -> None:
    ledger = MemoryLedger(LedgerStore(replicas=REPLICAS))
    async with running(ledger) as limits:
        before = ledger.exchanges
        rules = (budget(10**9), calls(10**5), rate(10**5))
        for _ in range(1000):
            grant = await limits.acquire(rules, Cost(10, 10), time.monotonic())
            assert isinstance(grant, Grant)
            grant.settle(5, time.monotonic())
        assert ledger.exchanges - before <= 10


async def test_calls_that_wait_together_are_one_exchange() -> None:
    ledger = MemoryLedger(LedgerStore(replicas=REPLICAS))
    async with running(ledger) as limits:
        before = ledger.exchanges
        outcomes = await asyncio.gather(*(acquire(limits, budget(10_000), 100) for _ in range(64)))
        assert all(isinstance(outcome, Grant) for outcome in outcomes)
        assert ledger.exchanges - before <= 2


async def test_parallel_calls_of_a_leased_budget_overshoot_nothing() -> None:
    async with running(MemoryLedger(LedgerStore(replicas=REPLICAS))) as limits:
        outcomes = await asyncio.gather(*(acquire(limits, budget(1000), 50) for _ in range(64)))
        totals = [outcome.token_total or 0 for outcome in outcomes if isinstance(outcome, Grant)]
        assert sum(totals) == 1000


async def test_refusals_of_a_spent_limit_do_not_ask_the_ledger_each_time() -> None:
    ledger = MemoryLedger(LedgerStore(replicas=REPLICAS))
    async with running(ledger) as limits:
        assert await admitted(limits, budget(), times=1, tokens=3000) == 1
        before, started_s = ledger.exchanges, time.monotonic()
        assert await admitted(limits, budget(), times=500) == 0
        assert ledger.exchanges - before <= 2 + 12 * (time.monotonic() - started_s)


async def test_a_lost_answer_heals_and_nothing_is_granted_twice() -> None:
    store = LedgerStore(replicas=REPLICAS)
    ledger = MemoryLedger(store)
    async with running(ledger) as limits:
        ledger.answers_lost = 1
        refused = await acquire(limits, budget(when_gone="refuse"), 1000)
        assert isinstance(refused, Refuse)
        await until_known(limits)
        assert await admitted(limits, budget(when_gone="refuse"), times=4, tokens=1000) == 3


async def test_a_hung_ledger_costs_the_first_call_5_ms_and_the_next_ones_nothing() -> None:
    ledger = MemoryLedger(LedgerStore(replicas=REPLICAS))
    async with running(ledger) as limits:
        ledger.is_open.clear()
        started_s = time.monotonic()
        outcome = await acquire(limits, budget(), 10)
        first_s = time.monotonic() - started_s
        assert isinstance(outcome, Grant)
        assert outcome.is_degraded
        assert limits.is_degraded
        assert limits.try_acquire((calls(),), Cost(), time.monotonic()) is not None
        assert first_s < 0.05  # 5 ms and what a busy machine adds


async def test_an_answer_that_is_late_counts_and_ends_the_degraded_time() -> None:
    ledger = MemoryLedger(LedgerStore(replicas=REPLICAS))
    async with running(ledger) as limits:
        ledger.is_open.clear()
        await acquire(limits, budget(), 10)
        ledger.is_open.set()
        started_s = time.monotonic()
        await until_known(limits)
        assert time.monotonic() - started_s < 0.2


async def test_without_the_ledger_a_rule_that_refuses_gives_only_what_is_leased() -> None:
    registry = CollectorRegistry()
    ledger = MemoryLedger(LedgerStore(replicas=REPLICAS))
    async with running(ledger, registry) as limits:
        rule = budget(when_gone="refuse")
        assert await admitted(limits, rule, times=1) == 1
        leased = 3000 // (2 * REPLICAS)
        ledger.is_failing = True
        await until_degraded(limits)
        assert await admitted(limits, rule, times=leased + 5) == leased - 1
        outcome = await acquire(limits, rule)
        assert isinstance(outcome, Refuse)
        assert outcome.kind is RefusalKind.LIMITS_UNKNOWN
        assert outcome.standings[0].is_degraded
        assert registry.get_sample_value("mesh_gateway_limit_degraded_total", {"policy": "refuse"})
        assert registry.get_sample_value("mesh_gateway_ledger_up") == 0


async def test_without_the_ledger_a_rule_that_shares_gives_the_limit_divided_by_the_gateways() -> None:
    ledger = MemoryLedger(LedgerStore(replicas=REPLICAS))
    async with running(ledger) as limits:
        ledger.is_failing = True
        await until_degraded(limits)
        assert await admitted(limits, budget(), times=1100) == 1000
        assert await admitted(limits, calls(), times=20) == 10
        assert await admitted(limits, rate(), times=20) == 10


async def test_shares_leave_alone_what_others_are_known_to_hold() -> None:
    store = LedgerStore(replicas=REPLICAS)
    one, two = MemoryLedger(store, "one"), MemoryLedger(store, "two")
    async with running(one) as greedy, running(two) as modest:
        assert await admitted(greedy, budget(), times=27, tokens=100) == 27
        assert await admitted(modest, budget(), times=1, tokens=1) == 1
        one.is_failing = two.is_failing = True
        await until_degraded(greedy)
        await until_degraded(modest)
        totals = [
            outcome.token_total or 0
            for limits in (greedy, modest)
            for outcome in [await acquire(limits, budget(), 10) for _ in range(400)]
            if isinstance(outcome, Grant)
        ]
        assert sum(totals) <= 300 - 1


async def test_what_was_used_without_the_ledger_is_counted_when_it_is_back() -> None:
    store = LedgerStore(replicas=REPLICAS)
    ledger = MemoryLedger(store)
    async with running(ledger) as limits:
        for rule, count in ((budget(30), 10), (rate(), 10)):
            ledger.is_failing = True
            await until_degraded(limits)
            assert await admitted(limits, rule, times=20) == count
            ledger.is_failing = False
            await until_known(limits)
            assert await admitted(limits, rule, times=40) == 30 - count


async def test_what_a_call_gives_back_of_a_spent_limit_is_told_at_once() -> None:
    store = LedgerStore(replicas=REPLICAS)
    async with running(MemoryLedger(store, "one")) as one, running(MemoryLedger(store, "two")) as two:
        held = [await acquire(one, calls(3)) for _ in range(3)]
        assert await admitted(two, calls(3), times=1) == 0
        for grant in held:
            assert isinstance(grant, Grant)
            grant.settle(0, time.monotonic())
        async with asyncio.timeout(0.6):  # sooner than the tick
            while await admitted(two, calls(3), times=1) == 0:
                await asyncio.sleep(0.01)


async def test_a_gateway_that_stops_gives_back_what_it_leased() -> None:
    store = LedgerStore(replicas=REPLICAS)
    async with running(MemoryLedger(store, "one")) as one:
        assert await admitted(one, budget(), times=1, tokens=100) == 1
    async with running(MemoryLedger(store, "two")) as two:
        assert await admitted(two, budget(), times=30, tokens=100) == 29


async def test_a_call_that_one_limit_refuses_takes_nothing_from_the_others() -> None:
    ledger = MemoryLedger(LedgerStore(replicas=REPLICAS))
    async with running(ledger) as limits:
        spent = budget(100)
        assert await admitted(limits, spent, times=1, tokens=100) == 1
        for _ in range(10):
            outcome = await limits.acquire((rate(3), calls(3), spent), Cost(10), time.monotonic())
            assert isinstance(outcome, Refuse)
            await asyncio.sleep(0.06)  # longer than what was asked for a call was once kept for it
        assert await admitted(limits, rate(3), times=5) == 3
        assert await admitted(limits, calls(3), times=5) == 3


async def test_the_lease_of_a_rate_in_use_is_renewed_before_a_call_lacks_it() -> None:
    ledger = MemoryLedger(LedgerStore(replicas=REPLICAS))
    rules = (LimitRule("tenant:acme:requests", "requests", "tenant", 10_000, 10.0, 0.001),)
    async with running(ledger) as limits:
        assert isinstance(await limits.acquire(rules, Cost(), time.monotonic()), Grant)
        waited, before, until_s = 0, ledger.exchanges, time.monotonic() + 2.5
        while time.monotonic() < until_s:
            outcome = limits.try_acquire(rules, Cost(), time.monotonic())
            waited += outcome is None
            await asyncio.sleep(0.005)
        assert waited <= 5
        assert ledger.exchanges - before <= 150


async def test_a_rate_that_nobody_uses_is_given_back() -> None:
    store = LedgerStore(replicas=REPLICAS)
    async with running(MemoryLedger(store, "one")) as one, running(MemoryLedger(store, "two")) as two:
        assert await admitted(one, rate(60), times=1) == 1
        assert await admitted(two, rate(60), times=60) < 59
        async with asyncio.timeout(LIMIT_S):
            while store.held["tenant:acme:requests", -1]["one"]:
                await asyncio.sleep(0.05)
        assert await admitted(two, rate(60), times=60) > 0


async def test_a_call_that_is_cancelled_while_it_waits_takes_nothing() -> None:
    ledger = MemoryLedger(LedgerStore(replicas=REPLICAS))
    async with running(ledger) as limits:
        ledger.is_open.clear()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(acquire(limits, budget(), 3000))
            await asyncio.sleep(0)
            waiting.cancel()
        ledger.is_open.set()
        await until_known(limits)
        assert await admitted(limits, budget(), times=1, tokens=3000) == 1
