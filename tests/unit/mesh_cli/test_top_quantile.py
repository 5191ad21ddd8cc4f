"""Quantiles of histograms: against values calculated by hand, and for any buckets."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_cli.top.quantile import histogram_quantile

TEN = {0.1: 2.0, 0.5: 8.0, 1.0: 10.0, math.inf: 10.0}


@pytest.mark.parametrize(
    ("share", "value"),
    [
        (0.1, 0.05),  # rank 1 of the 2 up to 0.1: half of the way from 0
        (0.2, 0.1),  # rank 2 is the whole of the first bucket
        (0.5, 0.3),  # rank 5: 3 of the 6 between 0.1 and 0.5
        (0.99, 0.975),  # rank 9.9: 1.9 of the 2 between 0.5 and 1
    ],
)
def test_within_a_bucket_observations_are_evenly_spread(share: float, value: float) -> None:
    assert histogram_quantile(share, TEN) == pytest.approx(value)


def test_the_unit_of_the_counts_does_not_matter() -> None:
    per_second = {bound: count / 7 for bound, count in TEN.items()}
    assert histogram_quantile(0.5, per_second) == pytest.approx(0.3)


def test_what_is_above_the_last_finite_bound_counts_as_that_bound() -> None:
    assert histogram_quantile(0.99, {0.1: 1.0, 2.5: 1.0, math.inf: 10.0}) == 2.5


def test_a_first_bound_below_zero_is_its_own_quantile() -> None:
    assert histogram_quantile(0.5, {-1.0: 8.0, 1.0: 10.0, math.inf: 10.0}) == -1.0


@pytest.mark.parametrize(
    "buckets",
    [{}, {math.inf: 5.0}, {0.1: 5.0, 1.0: 5.0}, {0.1: 0.0, math.inf: 0.0}, {0.1: -3.0, math.inf: -1.0}],
)
def test_without_observations_or_an_infinite_bound_there_is_none(buckets: dict[float, float]) -> None:
    assert histogram_quantile(0.5, buckets) is None


def test_a_bucket_that_has_less_than_the_one_below_counts_as_much() -> None:
    assert histogram_quantile(0.5, {0.1: 5.0, 0.2: 4.0, math.inf: 10.0}) == pytest.approx(0.1)


@given(
    counts=st.lists(st.floats(0, 1e9), min_size=2, max_size=8),
    shares=st.tuples(st.floats(0.001, 0.999), st.floats(0.001, 0.999)),
)
def test_a_quantile_lies_between_the_bounds_and_grows_with_its_share(
    counts: list[float], shares: tuple[float, float]
) -> None:
    bounds = [*(0.5 * 2**index for index in range(len(counts) - 1)), math.inf]
    buckets = dict(zip(bounds, counts, strict=True))
    low, high = (histogram_quantile(share, buckets) for share in sorted(shares))
    if low is None or high is None:
        assert low is high is None
        return
    assert 0 <= low <= high + 1e-9
    assert high <= bounds[-2]
