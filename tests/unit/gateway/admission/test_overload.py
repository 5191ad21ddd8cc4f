"""What callers get from a model that is asked for more than it can do."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from gateway.policy.facts import Priority
from tests.support.admission_simulation import Outcome, Simulation, Source

CAPACITY, QUEUE_SIZE = 16, 128
SECONDS_FOR_TOKEN = 0.001
CALL_S = 0.1
"""Time of a call of 100 tokens."""
PEAK_RATE = CAPACITY / CALL_S
OVERLOAD = 3 * PEAK_RATE
GOODPUT, FAIRNESS = 0.9, 0.05
SECONDS = 20.0

Seconds = Callable[[int, random.Random], float]


def steady(cost: int, _: random.Random) -> float:
    return cost * SECONDS_FOR_TOKEN


def exponential(cost: int, rng: random.Random) -> float:
    return rng.expovariate(1 / (cost * SECONDS_FOR_TOKEN))


def long_tailed(cost: int, rng: random.Random) -> float:
    return cost * SECONDS_FOR_TOKEN * rng.lognormvariate(-0.5, 1.0)


ANY_SERVICE = pytest.mark.parametrize("seconds_of", [steady, exponential, long_tailed])


def run(*sources: Source, seconds_of: Seconds = steady, seconds: float = SECONDS) -> list[Outcome]:
    return Simulation(CAPACITY, QUEUE_SIZE, seconds_of).run(sources, seconds)


@ANY_SERVICE
@pytest.mark.parametrize("time_s", [0.25, 0.5, 2.0, None])
def test_goodput_at_three_times_the_capacity_is_that_of_the_peak(
    seconds_of: Seconds, time_s: float | None
) -> None:
    def goodput(rate: float) -> int:
        (outcome,) = run(Source(rate, time_s=time_s), seconds_of=seconds_of)
        return outcome.done

    peak = max(goodput(load * PEAK_RATE) for load in (0.9, 1.1))
    assert goodput(OVERLOAD) >= GOODPUT * peak


@ANY_SERVICE
@pytest.mark.parametrize("time_s", [0.5, 2.0, None])
def test_the_high_class_is_not_refused_whatever_the_others_send(
    seconds_of: Seconds, time_s: float | None
) -> None:
    high, normal, bulk = run(
        Source(0.2 * PEAK_RATE, "first", priority=Priority.HIGH, time_s=time_s),
        Source(OVERLOAD, "second", time_s=time_s),
        Source(OVERLOAD, "third", priority=Priority.BULK, time_s=time_s),
        seconds_of=seconds_of,
    )
    assert high.arrived > 400
    assert high.refused == 0
    assert max(high.waits_s) < CALL_S
    assert normal.refused > 1000
    assert bulk.refused > 1000


@pytest.mark.parametrize("time_s", [1.0, None])
def test_tenants_get_tokens_by_their_weights_when_all_want_more(time_s: float | None) -> None:
    weights = (1.0, 2.0, 4.0)
    outcomes = run(
        Source(OVERLOAD, "small", 1.0, time_s=time_s, costs=(90, 110)),
        Source(OVERLOAD, "middle", 2.0, time_s=time_s, costs=(40, 60)),
        Source(OVERLOAD, "large", 4.0, time_s=time_s, costs=(20, 30)),
        seconds=60.0,
    )
    unit = sum(one.done_tokens for one in outcomes) / sum(weights)
    for outcome, weight in zip(outcomes, weights, strict=True):
        assert outcome.done_tokens == pytest.approx(weight * unit, rel=FAIRNESS)


def test_a_tenant_that_stays_within_its_share_hardly_notices_one_that_does_not() -> None:
    _, modest = run(Source(OVERLOAD, "greedy"), Source(0.1 * PEAK_RATE, "modest"))
    assert modest.refused == 0
    assert max(modest.waits_s) < CALL_S


@ANY_SERVICE
def test_most_that_cannot_be_served_in_time_are_refused_at_once(seconds_of: Seconds) -> None:
    (outcome,) = run(Source(OVERLOAD, time_s=0.5), seconds_of=seconds_of)
    assert outcome.refused_at_once > 0.9 * outcome.refused


def test_little_that_is_started_ends_too_late() -> None:
    (outcome,) = run(Source(OVERLOAD, time_s=0.5))
    assert outcome.late < 0.01 * outcome.done


def test_a_model_that_was_slow_once_is_not_held_to_it() -> None:
    slow_calls = iter([30.0] * CAPACITY)

    def once_slow(cost: int, rng: random.Random) -> float:
        return next(slow_calls, steady(cost, rng))

    (outcome,) = run(Source(OVERLOAD, time_s=1.0), seconds_of=once_slow)
    assert outcome.done >= GOODPUT * (SECONDS - 2.0) * PEAK_RATE
