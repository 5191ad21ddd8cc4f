"""Arrival times: what several gateways admit on leases keeps GCRA's bound in every interval."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
from hypothesis import given

from gateway.policy.facts import Cost
from gateway.policy.limits.lease import ASK, GONE, LEASED, OWN, ROOM, Received, Terms
from gateway.policy.limits.request_lease import RequestLease
from gateway.policy.limits.request_pace import RequestPace
from gateway.policy.limits.room import LEASE_S
from gateway.policy.limits.rules import LimitRule
from tests.fakes.memory_ledger import LedgerStore

BURST, INTERVAL_S = 5, 0.2
RATE = LimitRule("key:abcdefgh:requests", "requests", "key", BURST, BURST * INTERVAL_S, INTERVAL_S)
COST = Cost()
GATEWAYS = 3
ALONE, SHARING = Terms(OWN), Terms(LEASED, GATEWAYS)

ARRIVALS = st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, GATEWAYS - 1)), max_size=120)
WHAT = st.sampled_from(("call", "call", "tick", "give back", "lost answer"))
MOMENTS = st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, GATEWAYS - 1), WHAT), max_size=120)
"""A gap, the gateway of a call, and what that one tells the ledger before it."""
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
    account, now_s, admitted = RequestPace(RATE), 100.0, []
    for gap_s, _ in arrivals:
        now_s += gap_s
        if account.check(COST, now_s, ALONE) == ROOM:
            account.take(1, now_s, ALONE)
            admitted.append(now_s)
    assert_bounded(admitted)


@given(MOMENTS, CLOCKS)
def test_gateways_with_clocks_of_their_own_admit_no_more_than_that_together(
    arrivals: list[tuple[float, int, str]], clocks_s: tuple[float, ...]
) -> None:
    store = LedgerStore(replicas=1)  # the largest leases
    accounts = [RequestLease(RATE) for _ in range(GATEWAYS)]
    start_s, admitted = 1e6, []
    now_s = start_s
    for gap_s, number, what in arrivals:
        now_s += gap_s
        store.now_us = now_s * 1e6
        account, local_s = accounts[number], now_s + clocks_s[number]
        verdict = account.check(COST, local_s, SHARING)
        if verdict == ASK or (verdict == ROOM and what != "call"):
            if what == "tick":
                account.trim()
            elif what == "give back":
                account.give_back()
            answer = store.answer(str(number), account.report(int(verdict == ASK), local_s))
            if what != "lost answer":
                account.apply(answer, Received(local_s, local_s, now_s - local_s))
        if account.check(COST, local_s, SHARING) == ROOM:
            account.take(1, local_s, SHARING)
            admitted.append(now_s)
    assert_bounded(admitted)


@given(ARRIVALS)
def test_without_a_ledger_each_gateway_admits_no_more_than_its_share(
    arrivals: list[tuple[float, int]],
) -> None:
    terms, account, now_s, admitted = Terms(GONE, BURST), RequestLease(RATE), 0.0, []
    for gap_s, _ in arrivals:
        now_s += gap_s
        if account.check(COST, now_s, terms) == ROOM:
            account.take(1, now_s, terms)
            admitted.append(now_s)
    shared_s = INTERVAL_S * BURST
    for one, next_one in itertools.pairwise(admitted):
        assert next_one - one >= shared_s - 1e-6


def test_a_lease_lives_for_seconds_and_is_not_back_in_the_burst_until_it_is_given_back() -> None:
    store, account, other = LedgerStore(replicas=1), RequestLease(RATE), RequestLease(RATE)
    account.apply(store.answer("one", account.report(1, 0.0)), Received(0.0, 0.0, 1e6))
    leased = account.free
    assert leased > 1
    store.now_us += 3e6
    answer = store.answer("two", other.report(BURST, 3.0))
    assert answer.granted == BURST - leased
    assert account.check(COST, 3.0, SHARING) == ROOM
    account.give_back()
    store.answer("one", account.report(0, 3.0))
    other.apply(store.answer("two", other.report(2 * BURST, 3.0)), Received(3.0, 3.0, 1e6))
    assert other.free == leased
    assert account.check(COST, 3.0, SHARING) == ASK


def test_a_lease_without_word_from_the_ledger_ends_before_others_may_have_it() -> None:
    store, account = LedgerStore(replicas=1), RequestLease(RATE)
    account.apply(store.answer("one", account.report(1, 0.0)), Received(0.0, 0.0, 1e6))
    assert account.check(COST, LEASE_S - 0.1, SHARING) == ROOM
    assert account.check(COST, LEASE_S, SHARING) == ASK
    assert account.report(1, LEASE_S).total == 0


def test_a_refusal_says_when_the_next_request_may_come() -> None:
    store, account = LedgerStore(replicas=1), RequestLease(RATE)
    account.apply(store.answer("one", account.report(BURST, 0.0)), Received(0.0, 0.0, 1e6))
    for _ in range(BURST):
        assert account.check(COST, 0.0, SHARING) == ROOM
        account.take(1, 0.0, SHARING)
    assert abs(account.check(COST, 0.0, SHARING) - INTERVAL_S) < 1e-6


def test_what_was_admitted_on_leases_counts_in_the_share_when_the_ledger_is_gone() -> None:
    store, account = LedgerStore(replicas=1), RequestLease(RATE)
    account.apply(store.answer("one", account.report(2, 0.0)), Received(0.0, 0.0, 1e6))
    while account.check(COST, 0.1, SHARING) == ROOM:
        account.take(1, 0.1, SHARING)
    assert account.check(COST, 0.1, Terms(GONE, GATEWAYS)) > 0
