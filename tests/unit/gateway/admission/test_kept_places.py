"""A call that waits keeps its place: who would lose it to a higher class is refused at once."""

from __future__ import annotations

import random

import pytest

from gateway.policy.admission.admission_control import AdmissionControl, Waits
from gateway.policy.admission.entry import EntryFacts
from gateway.policy.facts import Priority, RefusalKind, Refuse
from tests.support.admission_simulation import Simulation, Source

CALL_S, TOKENS, SIZE = 0.1, 100, 4


def entry(priority: Priority) -> EntryFacts:
    return EntryFacts(priority.name, 1.0, priority, TOKENS)


def busy_control(*, has_high_calls: bool = False) -> AdmissionControl:
    """One that knows how long calls take, has one place in flight, taken, and a queue of four."""
    made = AdmissionControl(SIZE, 30.0, random.Random(1))
    made.capacity = 1
    first = Priority.HIGH if has_high_calls else Priority.NORMAL
    for number in range(100):
        assert made.try_start(entry(first), -100.0 + number * CALL_S)
        made.finish(entry(first), -100.0 + number * CALL_S, -100.0 + (number + 1) * CALL_S)
    if has_high_calls:
        assert made.try_start(entry(Priority.HIGH), 0.0)
    else:
        assert made.try_start(entry(Priority.NORMAL), 0.0)
    return made


def is_full(outcome: Waits | Refuse) -> bool:
    return isinstance(outcome, Refuse) and outcome.kind is RefusalKind.QUEUE_FULL


def test_a_place_of_the_queue_is_kept_for_the_high_class_as_long_as_it_calls() -> None:
    made = busy_control(has_high_calls=True)
    outcomes = [made.wait(entry(Priority.NORMAL), 0.0) for _ in range(SIZE)]
    assert [is_full(one) for one in outcomes] == [False] * (SIZE - 1) + [True]
    high = made.wait(entry(Priority.HIGH), 0.0)
    assert isinstance(high, Waits)
    assert high.displaced is None


def test_without_high_calls_the_others_have_every_place() -> None:
    made = busy_control()
    outcomes = [made.wait(entry(Priority.NORMAL), 0.0) for _ in range(SIZE + 1)]
    assert [is_full(one) for one in outcomes] == [False] * SIZE + [True]


def test_while_a_class_has_calls_refused_a_lower_one_gets_no_place_that_it_would_lose() -> None:
    made = busy_control()
    for _ in range(SIZE + 1):
        made.wait(entry(Priority.NORMAL), 0.0)
    head = made.next_in_line(0.0)
    assert head is None
    made.finish(entry(Priority.NORMAL), 0.0, CALL_S)
    head = made.next_in_line(CALL_S)
    assert head is not None
    made.start(head)
    assert is_full(made.wait(entry(Priority.BULK), CALL_S))
    assert isinstance(made.wait(entry(Priority.NORMAL), CALL_S), Waits)


def test_a_lower_class_has_places_again_once_those_who_waited_had_their_turn() -> None:
    made = busy_control()
    places = [made.wait(entry(Priority.NORMAL), 0.0) for _ in range(SIZE + 1)]
    for place in places[1:SIZE]:
        assert isinstance(place, Waits)
        made.withdraw(place.place)
    assert is_full(made.wait(entry(Priority.BULK), (SIZE - 1) * CALL_S))
    assert isinstance(made.wait(entry(Priority.BULK), (SIZE + 1) * CALL_S), Waits)


@pytest.mark.parametrize(("capacity", "size"), [(4, 4), (16, 128)])
def test_at_three_times_the_capacity_nearly_every_refusal_is_at_once(capacity: int, size: int) -> None:
    peak_rate = capacity / CALL_S

    def steady(cost: int, _: random.Random) -> float:
        return cost * CALL_S / TOKENS

    outcomes = Simulation(capacity, size, steady).run(
        (
            Source(0.2 * peak_rate, "first", priority=Priority.HIGH),
            Source(2.0 * peak_rate, "second"),
            Source(0.8 * peak_rate, "third", priority=Priority.BULK),
        ),
        20.0,
    )
    after_a_wait = sum(len(one.refused_after_s) for one in outcomes)
    assert after_a_wait <= 0.05 * sum(one.refused for one in outcomes)
    assert sum(one.done for one in outcomes) >= 0.9 * 20.0 * peak_rate
    assert outcomes[0].refused == 0
