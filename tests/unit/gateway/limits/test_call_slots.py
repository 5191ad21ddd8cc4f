"""Leased calls at once: a lease that is not renewed may not be used."""

from __future__ import annotations

from gateway.policy.facts import Cost
from gateway.policy.limits.call_slots import CallSlots
from gateway.policy.limits.lease import ASK, GONE, LEASED, ROOM, Answer, Received, Terms
from gateway.policy.limits.room import LEASE_S
from gateway.policy.limits.rules import LimitRule

CALLS = LimitRule("model:chat:concurrency", "concurrency", "model", 12)
REFUSING = LimitRule("model:chat:concurrency", "concurrency", "model", 12, when_gone="refuse")
SHARING, ALONE = Terms(LEASED, 3), Terms(GONE, 3)
COST = Cost()


def leased(rule: LimitRule, total: int, remaining: int) -> CallSlots:
    """An account with a lease that was answered at second 0."""
    account = CallSlots(rule)
    account.apply(Answer(total, total, remaining), Received(0.0, 0.0, 0.0))
    return account


def test_spare_calls_of_a_lease_end_before_the_ledger_gives_them_to_others() -> None:
    account = leased(CALLS, 4, 8)
    assert account.check(COST, LEASE_S - 0.1, SHARING) == ROOM
    assert account.check(COST, LEASE_S, SHARING) == ASK
    assert account.report(1, LEASE_S).total == 0


def test_without_the_ledger_a_rule_that_refuses_uses_its_lease_only_while_that_lives() -> None:
    account = leased(REFUSING, 4, 8)
    assert account.check(COST, 1.0, ALONE) == ROOM
    assert account.check(COST, LEASE_S, ALONE) > 0


def test_without_the_ledger_fresh_knowledge_bounds_the_share_and_old_does_not() -> None:
    account = leased(CALLS, 1, 0)
    account.take(1, 0.0, SHARING)
    assert account.check(COST, 1.0, ALONE) > 0
    assert account.check(COST, LEASE_S, ALONE) == ROOM


def test_calls_that_run_are_reported_for_as_long_as_they_run() -> None:
    account = leased(CALLS, 2, 10)
    account.take(1, 0.0, SHARING)
    account.trim()
    account.trim()
    assert account.has_spare
    assert account.report(0, 100.0).total == 1
    account.release()
    account.give_back()
    assert not account.has_spare
    assert account.is_idle(100.0)
