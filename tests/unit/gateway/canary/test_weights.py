from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.routing.weights import percent_of, sticky_weighted, weighted

WEIGHTS = st.dictionaries(st.text(min_size=1, max_size=5), st.floats(0, 1e6), min_size=1, max_size=6)


@given(WEIGHTS, st.floats(0, 1, exclude_max=True))
def test_what_has_no_weight_is_chosen_only_if_nothing_has_any(weights: dict[str, float], draw: float) -> None:
    for chosen in (weighted(weights, draw), sticky_weighted(weights, "model", str(draw))):
        assert chosen in weights
        assert weights[chosen] > 0 or not sum(weights.values())


def test_choices_are_as_often_as_their_weights() -> None:
    weights = {"a": 1.0, "none": 0.0, "b": 3.0}
    draws = [weighted(weights, index / 1000) for index in range(1000)]
    sticky = [sticky_weighted(weights, "model", f"user-{index}") for index in range(4000)]
    assert draws.count("b") == 750
    assert 0.72 < sticky.count("b") / 4000 < 0.78


def test_only_who_was_with_a_version_that_goes_moves() -> None:
    before = {"a": 1.0, "b": 1.0, "c": 2.0}
    after = {"a": 1.0, "c": 2.0}
    for index in range(500):
        chosen = sticky_weighted(before, "model", str(index))
        if chosen != "b":
            assert sticky_weighted(after, "model", str(index)) == chosen


@given(st.text(), st.text())
def test_a_value_stands_at_the_same_percent_for_ever(scope: str, value: str) -> None:
    assert 0 <= percent_of(scope, value) < 100
    assert percent_of(scope, value) == percent_of(scope, value)


def test_values_are_spread_evenly_and_apart_for_each_scope() -> None:
    points = [percent_of("chat", f"key-{index}") for index in range(2000)]
    assert 80 < sum(point < 5 for point in points) < 120
    assert points[:10] != [percent_of("embed", f"key-{index}") for index in range(10)]


def test_nothing_cannot_be_chosen_from() -> None:
    with pytest.raises(ValueError, match="nothing"):
        weighted({}, 0.5)
