"""Token windows that the ledger numbers: their ends, and what counts in which."""

from __future__ import annotations

from gateway.limits.grant import Grant
from gateway.policy.facts import Cost
from gateway.policy.limits.call_accounts import CallAccounts
from gateway.policy.limits.lease import ASK, ASKED, GONE, LEASED, ROOM, Answer, Received, Terms
from gateway.policy.limits.rules import LimitRule
from gateway.policy.limits.token_window import TokenWindow

WINDOW_S = 60.0
BUDGET = LimitRule("tenant:acme:tokens", "tokens", "tenant", 900, WINDOW_S)
REFUSING = LimitRule("tenant:acme:tokens", "tokens", "tenant", 900, WINDOW_S, when_gone="refuse")
SHARING, JUST_ASKED, ALONE = Terms(LEASED, 3), Terms(ASKED, 3), Terms(GONE, 3)
TEN = Cost(0, 10)


def leased(
    rule: LimitRule = BUDGET, *, total: int = 100, number: int = 7, left_s: float = 30.0
) -> TokenWindow:
    """An account with a lease that was answered at second 0."""
    account = TokenWindow(rule)
    account.apply(Answer(total, total, 900 - total, number, left_s), Received(0.0, 0.0, 0.0))
    return account


def taken(of_call: CallAccounts, tokens: int, now_s: float) -> Grant:
    """A grant of what the account has at hand."""
    assert of_call.take(tokens, now_s)
    return Grant(of_call, tokens, 0, now_s, SHARING, None)


def test_a_lease_ends_with_its_window_and_only_the_ledger_begins_the_next() -> None:
    account = leased()
    assert account.check(TEN, 29.9, SHARING) == ROOM
    assert account.check(TEN, 30.0, SHARING) == ASK
    account.apply(Answer(50, 50, 850, 8, 60.0), Received(30.0, 30.0, 0.0))
    assert (account.taken, account.used) == (50, 0)
    assert account.check(TEN, 89.9, SHARING) == ROOM


def test_a_ledger_whose_window_lasts_a_moment_longer_keeps_what_was_used() -> None:
    account = leased()
    account.take(60, 29.0, SHARING)
    assert account.check(TEN, 30.0, SHARING) == ASK
    account.apply(Answer(0, 100, 800, 7, 0.01), Received(30.0, 30.0, 0.0))
    assert (account.taken, account.used) == (100, 60)


def test_a_reservation_of_an_old_window_refunds_nothing_in_the_next() -> None:
    account = leased()
    of_call = CallAccounts((BUDGET,), [account])
    old = taken(of_call, 40, 1.0)
    account.apply(Answer(50, 50, 850, 8, 60.0), Received(30.0, 30.0, 0.0))
    new = taken(of_call, 20, 31.0)
    old.settle(0, 31.0)
    assert account.used == 20
    new.settle(5, 31.0)
    assert account.used == 5


def test_what_was_used_before_the_ledger_named_the_window_counts_in_it_and_can_be_refunded() -> None:
    account = TokenWindow(BUDGET)
    assert account.check(TEN, 0.0, ALONE) == ROOM
    grant = taken(CallAccounts((BUDGET,), [account]), 10, 0.0)
    assert account.report(0, 1.0).total == 300
    account.apply(Answer(0, 300, 600, 7, 30.0), Received(1.0, 1.0, 0.0))
    assert account.used == 10
    grant.settle(6, 2.0)
    assert account.used == 6


def test_without_the_ledger_windows_go_on_where_it_left_them() -> None:
    account = leased()
    account.take(100, 1.0, SHARING)
    assert account.check(TEN, 30.0 + 2 * WINDOW_S, ALONE) == ROOM
    assert account.number == 10
    assert account.until_s == 30.0 + 3 * WINDOW_S
    account.take(300, 151.0, ALONE)
    assert account.check(TEN, 160.0, ALONE) == 50.0


def test_without_the_ledger_a_rule_that_refuses_has_nothing_in_a_new_window() -> None:
    account = leased(REFUSING)
    assert account.check(TEN, 29.0, ALONE) == ROOM
    assert account.check(TEN, 31.0, ALONE) > 0


def test_a_budget_that_is_spent_everywhere_is_not_asked_for_again_at_once() -> None:
    account = leased(total=900)
    account.take(900, 0.0, SHARING)
    account.apply(Answer(0, 900, 0, 7, 30.0), Received(0.0, 0.0, 0.0))
    assert account.check(TEN, 0.05, SHARING) > 0
    assert account.check(TEN, 0.2, SHARING) == ASK


def test_what_other_calls_had_first_is_worth_a_quick_retry() -> None:
    account = leased(total=100)
    account.take(100, 0.0, SHARING)
    assert account.check(TEN, 0.0, JUST_ASKED) < 1.0


def test_the_tick_keeps_twice_what_was_spent_since_the_last_one_and_gives_back_the_rest() -> None:
    account = leased()
    account.take(10, 0.0, SHARING)
    account.trim()
    assert account.report(0, 0.0).total == 30
    account.trim()
    assert account.report(0, 0.0).total == 10


def test_while_others_may_wait_for_it_the_tick_keeps_no_more_than_was_spent() -> None:
    account = leased(total=800)
    account.take(10, 0.0, SHARING)
    account.trim()
    assert account.report(0, 0.0).total == 20


def test_a_lease_whose_reserve_is_needed_asks_for_twice_what_was_spent_before_it_is_used_up() -> None:
    account = leased(total=100)
    account.take(40, 0.0, SHARING)
    assert account.check(TEN, 0.0, SHARING) == ROOM
    assert not account.is_low
    account.take(10, 0.0, SHARING)
    assert account.check(TEN, 0.0, SHARING) == ROOM
    assert account.is_low
    assert (account.report(0, 0.0).need, account.report(0, 0.0).wish) == (0, 50)
    account.apply(Answer(50, 150, 750, 7, 30.0), Received(0.0, 0.0, 0.0))
    assert not account.is_low
    assert (account.used, account.free) == (50, 100)
