"""How many retries there may be."""

from __future__ import annotations

import pytest

from gateway.policy.routing.retry_budget import RetryBudget, retries_allowed


@pytest.mark.parametrize(("active", "allowed"), [(0, 3), (10, 3), (20, 4), (100, 20)])
def test_retries_are_a_share_of_the_active_calls(active: int, allowed: int) -> None:
    assert retries_allowed(active) == allowed


def test_a_spent_budget_refuses_until_calls_end() -> None:
    budget = RetryBudget()
    for _ in range(15):
        budget.start_call()
    assert [budget.take() for _ in range(4)] == [True, True, True, False]
    budget.end_call(3)
    assert budget.take()


def test_quick_failures_are_not_all_tried_again() -> None:
    budget, retries = RetryBudget(), 0
    for _ in range(1000):
        budget.start_call()
        taken = sum(budget.take() for _ in range(2))
        budget.end_call(taken)
        retries += taken
    assert retries <= 0.2 * 1000 + 3


def test_quiet_times_are_saved_up_to_a_bound() -> None:
    budget = RetryBudget()
    for _ in range(10_000):
        budget.start_call()
    assert sum(budget.take() for _ in range(1000)) == 100
