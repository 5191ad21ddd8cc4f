"""Which of its limits ends an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_mesh.errors import InputTooLongError, TokenBudgetError
from inference_mesh.v1 import payload_pb2
from workers.llama.length_limit import LengthLimit, length_limit

MAX_TOKENS = payload_pb2.LENGTH_REASON_MAX_TOKENS
CONTEXT = payload_pb2.LENGTH_REASON_CONTEXT
CLAMP = payload_pb2.LENGTH_REASON_CLAMP
TOKEN_BUDGET = payload_pb2.LENGTH_REASON_TOKEN_BUDGET


def limit(
    prompt: int, *, asked: int = 50, clamp: int = 0, budget: int | None = None, context: int = 1000
) -> LengthLimit:
    """The limit of a prompt; generous where the test says nothing."""
    return length_limit(prompt, asked=asked, clamp=clamp, token_budget=budget, context_tokens=context)


def test_each_limit_is_named_where_it_is_the_nearest() -> None:
    assert limit(10, clamp=60, budget=100) == (50, MAX_TOKENS)
    assert limit(960, clamp=60, budget=1100) == (40, CONTEXT)
    assert limit(10, clamp=30, budget=100) == (30, CLAMP)
    assert limit(10, clamp=30, budget=35) == (25, TOKEN_BUDGET)


def test_a_limit_that_only_equals_what_was_asked_for_takes_nothing_away() -> None:
    assert limit(10, clamp=50, budget=60, context=60) == (50, MAX_TOKENS)


def test_a_budget_that_holds_the_prompt_alone_is_spent() -> None:
    assert limit(10, budget=11) == (1, TOKEN_BUDGET)
    for budget in (10, 9, 0):
        with pytest.raises(TokenBudgetError):
            limit(10, budget=budget)


def test_a_prompt_that_no_budget_could_help_is_too_long_first() -> None:
    with pytest.raises(InputTooLongError):
        limit(1000, budget=0)


@given(st.integers(1, 99), st.integers(1, 200), st.integers(0, 200), st.none() | st.integers(0, 300))
def test_prompt_and_answer_never_exceed_the_budget_or_the_context(
    prompt: int, asked: int, clamp: int, budget: int | None
) -> None:
    try:
        tokens, _ = limit(prompt, asked=asked, clamp=clamp, budget=budget, context=100)
    except TokenBudgetError:
        assert budget is not None
        assert budget <= prompt
        return
    assert 1 <= tokens <= asked
    assert prompt + tokens <= min(100, 10**9 if budget is None else budget)
    assert not clamp or tokens <= clamp


def test_several_answers_share_the_budget_and_nothing_else() -> None:
    shared = {"asked": 50, "context_tokens": 1000, "answers": 3}
    assert length_limit(10, clamp=20, token_budget=None, **shared) == (20, CLAMP)
    assert length_limit(10, clamp=20, token_budget=10 + 3 * 7 + 2, **shared) == (7, TOKEN_BUDGET)
    with pytest.raises(TokenBudgetError):
        length_limit(10, clamp=20, token_budget=12, **shared)
