"""Batches of texts: full but within their limits, and a turn for every request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.llama.text_batching import PackLimits, Place, next_pack

LIMITS = PackLimits(tokens=100, texts=4)


def test_texts_join_the_first_one_until_the_batch_is_full() -> None:
    assert next_pack([[40], [40], [40], [20]], LIMITS) == [Place(0, 0), Place(1, 0), Place(3, 0)]


def test_no_more_texts_than_the_context_has_sequences() -> None:
    assert len(next_pack([[1] * 10], LIMITS)) == 4


def test_a_text_longer_than_a_batch_is_computed_alone() -> None:
    assert next_pack([[500], [1]], LIMITS) == [Place(0, 0)]


def test_each_request_gets_a_text_in_turn() -> None:
    assert next_pack([[10, 10, 10, 10], [10]], PackLimits(100, 3)) == [Place(0, 0), Place(1, 0), Place(0, 1)]


@pytest.mark.fuzz
@given(
    st.lists(st.lists(st.integers(1, 200), min_size=1, max_size=9), min_size=1, max_size=9),
    st.integers(1, 150),
    st.integers(1, 9),
)
def test_every_batch_holds_its_limits_and_the_first_text(
    waiting: list[list[int]], tokens: int, texts: int
) -> None:
    places = next_pack(waiting, PackLimits(tokens, texts))
    assert places[0] == Place(0, 0)
    assert len(set(places)) == len(places) <= texts
    total = sum(waiting[place.request][place.text] for place in places)
    assert total <= tokens or len(places) == 1
