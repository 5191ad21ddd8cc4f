"""Arrival times: what several gateways admit on leases keeps GCRA's bound in every interval."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
from hypothesis import given

from gateway.policy.facts import Cost
from gateway.policy.limits.lease import ASK, GONE, LEASED, OWN, ROOM, Received, Terms
from gateway.policy.limits.request_rate import RequestRate
from gateway.policy.limits.rules import LimitRule
from tests.fakes.memory_ledger import LedgerStore

BURST, INTERVAL_S = 5, 0.2
RATE = LimitRule("key:abcdefgh:requests", "requests", "key", BURST, BURST * INTERVAL_S, INTERVAL_S)
COST = Cost()
GATEWAYS = 3
ALONE, SHARING = Terms(OWN), Terms(LEASED, GATEWAYS)

ARRIVALS = st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, GATEWAYS - 1)), max_size=120)
CLOCKS = st.tuples(*(st.floats(-1e5, 1e5) for _ in range(GATEWAYS)))


def assert_bounded(admitted_s: list[float]) -> None:
    """Never more than burst + rate * t in any t seconds."""
    for first, start_s in enumerate(admitted_s):
        for last in range(first, len(admitted_s)):
            allowed = BURST + (admitted_s[last] - start_s) / INTERVAL_S + 1e-3
            assert last - first + 1 <= allowed


@given(ARRIVALS)
def test_one_gateway_admits_no_more_than_burst_and_rate_in_any_interval(
    arrivals: list[tuple[float, int]],
) -> None:
    account, now_s, admitted = RequestRate(RATE), 100.0, []
    for gap_s, _ in arrivals:
        now_s += gap_s
        if account.check(COST, now_s, ALONE) == ROOM:
            account.take(1, now_s, ALONE)
            admitted.append(now_s)
    assert_bounded(admitted)


@given(ARRIVALS, CLOCKS)
def test_gateways_with_clocks_of_their_own_admit_no_more_than_that_together(
    arrivals: list[tuple[float, int]], clocks_s: tuple[float, ...]
) -> None:
    store = LedgerStore(replicas=1)  # the largest leases
    accounts = [RequestRate(RATE) for _ in range(GATEWAYS)]
    start_s, admitted = 1e6, []
    now_s = start_s
    for gap_s, number in arrivals:
        now_s += gap_s
        store.now_us = now_s * 1e6
        account, local_s = accounts[number], now_s + clocks_s[number]
        if account.check(COST, local_s, SHARING) == ASK:
            answer = store.answer(str(number), account.report(1, local_s))
            account.apply(answer, Received(local_s, local_s, now_s - local_s))
        if account.check(COST, local_s, SHARING) == ROOM:
            account.take(1, local_s, SHARING)
            admitted.append(now_s)
    assert_bounded(admitted)


@given(ARRIVALS)
def test_without_a_ledger_each_gateway_admits_no_more_than_its_share(
    arrivals: list[tuple[float, int]],
) -> None:
    terms, account, now_s, admitted = Terms(GONE, BURST), RequestRate(RATE), 0.0, []
    for gap_s, _ in arrivals:
        now_s += gap_s
        if account.check(COST, now_s, terms) == ROOM:
            account.take(1, now_s, terms)
            admitted.append(now_s)
    shared_s = INTERVAL_S * BURST
    for one, next_one in itertools.pairwise(admitted):
        assert next_one - one >= shared_s - 1e-6


def test_a_lease_that_nobody_used_lapses_so_that_it_cannot_be_saved_up() -> None:
    store, account = LedgerStore(replicas=1), RequestRate(RATE)
    account.apply(store.answer("one", account.report(1, 0.0)), Received(0.0, 0.0, 1e6))
    account.take(1, 0.0, SHARING)
    assert account.check(COST, 0.01, SHARING) == ROOM
    assert account.check(COST, BURST * INTERVAL_S, SHARING) == ASK


def test_a_refusal_says_when_the_next_request_may_come() -> None:
    store, account = LedgerStore(replicas=1), RequestRate(RATE)
    account.apply(store.answer("one", account.report(BURST, 0.0)), Received(0.0, 0.0, 1e6))
    for _ in range(BURST):
        assert account.check(COST, 0.0, SHARING) == ROOM
        account.take(1, 0.0, SHARING)
    assert abs(account.check(COST, 0.0, SHARING) - INTERVAL_S) < 1e-6
