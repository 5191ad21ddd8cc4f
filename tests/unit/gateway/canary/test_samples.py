from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.routing.samples import (
    BUCKETS,
    CallResult,
    LatestSamples,
    SampleStats,
    Side,
    Sketch,
    StepSamples,
    added,
    result_of,
    samples_from,
)

TIMES = st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=200)


def sketch_of(times: list[float]) -> Sketch:
    made = Sketch()
    for seconds in times:
        made.add(seconds)
    return made


@given(TIMES, st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_right_within_two_percent(times: list[float], share: float) -> None:
    exact = sorted(times)[max(1, math.ceil(share * len(times))) - 1]
    found = sketch_of(times).quantile(share)
    assert found == pytest.approx(exact, rel=0.021)


@given(TIMES, TIMES)
def test_sketches_add_up(ours: list[float], theirs: list[float]) -> None:
    merged = sketch_of(ours)
    merged.merge(sketch_of(theirs))
    assert merged.counts == sketch_of(ours + theirs).counts
    assert merged.count == len(ours) + len(theirs)


@given(st.lists(st.floats(allow_nan=False), max_size=300))
def test_no_time_makes_a_sketch_larger_than_its_bounds(times: list[float]) -> None:
    assert all(0 <= bucket < BUCKETS for bucket in sketch_of(times).counts)


def test_without_times_there_is_no_quantile() -> None:
    assert Sketch().quantile(0.99) is None
    assert Sketch().surely_above(0.99, 2.33) is None


def test_one_slow_call_of_fifty_is_no_99th_percentile_and_ten_are() -> None:
    one = sketch_of([0.1] * 49 + [9.0]).surely_above(0.99, 2.33)
    ten = sketch_of([0.1] * 40 + [9.0] * 10).surely_above(0.99, 2.33)
    assert one is not None
    assert ten is not None
    assert one < 0.11
    assert ten > 8


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("OK", CallResult.GOOD),
        ("UNAVAILABLE", CallResult.FAULT),
        ("INTERNAL", CallResult.FAULT),
        ("UNKNOWN", CallResult.FAULT),
        ("DEADLINE_EXCEEDED", CallResult.FAULT),
        ("INVALID_ARGUMENT", None),
        ("RESOURCE_EXHAUSTED", None),
        ("CANCELLED", None),
        ("UNAUTHENTICATED", None),
    ],
)
def test_only_faults_of_the_worker_are_errors(code: str, result: CallResult | None) -> None:
    assert result_of(code) is result


def test_a_failed_call_is_not_a_fast_one() -> None:
    stats = SampleStats()
    stats.note(CallResult.FAULT, 0.001, None)
    stats.note(CallResult.GOOD, 1.0, 0.2)
    assert (stats.requests, stats.errors, stats.error_ratio) == (2, 1, 0.5)
    assert (stats.durations.count, stats.first_tokens.count) == (1, 1)


def test_samples_survive_their_written_form() -> None:
    samples = StepSamples()
    for index in range(30):
        samples.canary.note(CallResult.GOOD, index / 10, index / 100)
        samples.stable.note(CallResult.FAULT, 1.0, None)
    again = samples_from(json.loads(json.dumps(samples.document())))
    assert again.document() == samples.document()


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        [],
        [[1, 0, [], []]],
        [[1, 2, [], []], [0, 0, [], []]],
        [[1, 0, [[-1, 1]], []], [0, 0, [], []]],
        [[1, 0, [[BUCKETS, 1]], []], [0, 0, [], []]],
        [[1, 0, [["a", 1]], []], [0, 0, [], []]],
    ],
)
def test_what_is_not_the_written_form_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="not"):
        samples_from(document)


def test_gateways_samples_add_up() -> None:
    parts = [StepSamples() for _ in range(3)]
    for part in parts:
        part.canary.note(CallResult.FAULT, 1.0, None)
        part.stable.note(CallResult.GOOD, 1.0, None)
    total = added(parts)
    assert (total.canary.errors, total.stable.requests, total.stable.durations.count) == (3, 3, 3)


def test_what_is_long_past_does_not_hide_what_happens_now() -> None:
    latest = LatestSamples(window=100)
    for _ in range(10_000):
        latest.note(Side.CANARY, CallResult.GOOD, 0.1, None)
    for _ in range(50):
        latest.note(Side.CANARY, CallResult.FAULT, 0.1, None)
    assert latest.sum.canary.error_ratio > 0.2
    assert 100 <= latest.sum.canary.requests <= 200


def test_a_call_whose_length_is_the_callers_counts_as_a_call_but_has_no_time() -> None:
    stats = SampleStats()
    stats.note(CallResult.GOOD, None, None)
    assert (stats.requests, stats.errors, stats.durations.count, stats.first_tokens.count) == (1, 0, 0, 0)
