"""Who starts, who waits and who is refused."""

from __future__ import annotations

import random
import time

import pytest

from gateway.policy.admission.admission_control import (
    HINT_JITTER,
    LONGEST_HINT_S,
    RESERVE_SHARE,
    RESERVED_FOR_S,
    SHORTEST_HINT_S,
    AdmissionControl,
    Waits,
)
from gateway.policy.admission.entry import EntryFacts
from gateway.policy.admission.fair_class import Place
from gateway.policy.facts import Priority, RefusalKind, Refuse

REFUSAL_S = 0.001


def control(capacity: int = 1, size: int = 10, max_wait_s: float = 30.0) -> AdmissionControl:
    made = AdmissionControl(size, max_wait_s, random.Random(1))
    made.capacity = capacity
    return made


def entry(
    priority: Priority = Priority.NORMAL,
    *,
    tenant: str = "acme",
    cost: int = 100,
    deadline_s: float | None = None,
) -> EntryFacts:
    return EntryFacts(tenant, 1.0, priority, cost, deadline_s)


def learnt(made: AdmissionControl, call_s: float = 1.0) -> AdmissionControl:
    """Knows that calls take so long, and has all its places taken."""
    for number in range(100):
        assert made.try_start(entry(), 100.0 * number)
        made.finish(entry(), 100.0 * number, 100.0 * number + call_s)
    while made.in_flight < made.capacity:
        assert made.try_start(entry(), 0.0)
    return made


def waits(outcome: Waits | Refuse) -> Place:
    assert isinstance(outcome, Waits)
    return outcome.place


def refused(outcome: Waits | Refuse) -> Refuse:
    assert isinstance(outcome, Refuse)
    assert outcome.retry_after_s is not None
    shortest_s = SHORTEST_HINT_S * (1 - HINT_JITTER)
    assert shortest_s <= outcome.retry_after_s <= LONGEST_HINT_S * (1 + HINT_JITTER)
    return outcome


def test_as_many_start_at_once_as_the_replicas_hold() -> None:
    made = control(capacity=2)
    assert [made.try_start(entry(), 0.0) for _ in range(3)] == [True, True, False]


def test_without_a_replica_every_call_passes() -> None:
    made = control(capacity=0, size=0)
    assert all(made.try_start(entry(), 0.0) for _ in range(100))


def test_a_free_place_is_not_taken_from_those_who_wait() -> None:
    made = control()
    assert made.try_start(entry(), 0.0)
    place = waits(made.wait(entry(), 0.0))
    made.finish(entry(), 0.0, 1.0)
    assert not made.try_start(entry(), 1.0)
    assert made.next_in_line(1.0) is place
    assert made.try_start(entry(Priority.HIGH), 1.0)


def test_a_call_whose_time_is_over_never_starts() -> None:
    made = control(capacity=10)
    late = entry(deadline_s=5.0)
    assert not made.try_start(late, 5.0)
    assert refused(made.wait(late, 5.0)).kind is RefusalKind.TOO_LATE


def test_a_call_that_would_not_end_in_time_is_refused_at_once() -> None:
    made = learnt(control())
    for _ in range(3):
        waits(made.wait(entry(), 0.0))
    assert made.expected_wait_s(entry()) == pytest.approx(3.5, rel=0.01)
    assert refused(made.wait(entry(deadline_s=3.0), 0.0)).kind is RefusalKind.TOO_LATE
    waits(made.wait(entry(deadline_s=20.0), 0.0))


def test_the_hint_of_a_call_that_is_too_late_is_how_much() -> None:
    made = learnt(control())
    for _ in range(8):
        waits(made.wait(entry(), 0.0))
    hint_s = refused(made.wait(entry(deadline_s=3.0), 0.0)).retry_after_s
    assert hint_s == pytest.approx(9.0, rel=0.3)


def test_a_call_without_a_deadline_waits_no_longer_than_the_model_allows() -> None:
    made = learnt(control(max_wait_s=5.0))
    places = [waits(made.wait(entry(), 0.0)) for _ in range(4)]
    assert {place.latest_start_s for place in places} == {5.0}
    assert refused(made.wait(entry(), 0.0)).kind is RefusalKind.TOO_LATE


def test_a_late_deadline_makes_no_call_wait_longer_than_the_model_allows() -> None:
    made = learnt(control(max_wait_s=5.0))
    places = [waits(made.wait(entry(deadline_s=600.0), 0.0)) for _ in range(4)]
    assert {place.latest_start_s for place in places} == {5.0}
    assert refused(made.wait(entry(deadline_s=600.0), 0.0)).kind is RefusalKind.TOO_LATE


def test_a_waiting_call_may_start_as_long_as_it_would_end_in_time() -> None:
    made = learnt(control())
    place = waits(made.wait(entry(deadline_s=10.0), 0.0))
    assert place.latest_start_s == pytest.approx(9.0, abs=0.05)


def test_a_high_call_may_start_as_long_as_it_has_any_time() -> None:
    made = learnt(control())
    place = waits(made.wait(entry(Priority.HIGH, deadline_s=10.0), 0.0))
    assert 9.9 < place.latest_start_s < 10.0


def test_a_full_queue_refuses() -> None:
    made = learnt(control(size=2))
    for _ in range(2):
        waits(made.wait(entry(), 0.0))
    assert refused(made.wait(entry(), 0.0)).kind is RefusalKind.QUEUE_FULL


def test_a_queue_without_places_refuses_everybody() -> None:
    made = learnt(control(size=0))
    assert refused(made.wait(entry(Priority.HIGH), 0.0)).kind is RefusalKind.QUEUE_FULL


def test_a_full_queue_has_room_for_a_higher_class() -> None:
    made = learnt(control(size=1))
    bulk = waits(made.wait(entry(Priority.BULK), 0.0))
    outcome = made.wait(entry(Priority.HIGH), 0.0)
    assert isinstance(outcome, Waits)
    assert outcome.displaced is bulk
    assert made.queue.depth == 1


def test_some_places_are_kept_for_the_high_class_as_long_as_it_calls() -> None:
    made = control(capacity=2 * RESERVE_SHARE)
    high = entry(Priority.HIGH)
    assert made.try_start(high, 0.0)
    made.finish(high, 0.0, 0.0)
    assert sum(made.try_start(entry(), 0.0) for _ in range(made.capacity)) == made.capacity - 2
    assert not made.try_start(entry(Priority.BULK), 0.0)
    assert [made.try_start(high, 0.0) for _ in range(3)] == [True, True, False]
    made.finish(high, 0.0, 0.0)
    assert not made.try_start(entry(), RESERVED_FOR_S - 1)
    assert made.try_start(entry(), RESERVED_FOR_S)


def test_a_model_with_few_places_keeps_none() -> None:
    made = control(capacity=RESERVE_SHARE - 1)
    assert made.try_start(entry(Priority.HIGH), 0.0)
    assert sum(made.try_start(entry(), 0.0) for _ in range(made.capacity)) == made.capacity - 1


def test_a_class_expects_to_wait_longer_the_less_the_ones_above_leave_to_it() -> None:
    made = control(capacity=4)
    for second in range(100):
        for _ in range(3):
            assert made.try_start(entry(), second)
        for _ in range(3):
            made.finish(entry(), second, second + 1.0)
    for _ in range(4):
        assert made.try_start(entry(), 100.0)
    quick_s = made.expected_wait_s(entry())
    assert made.expected_wait_s(entry(Priority.HIGH)) == quick_s
    assert made.expected_wait_s(entry(Priority.BULK)) == pytest.approx(4 * quick_s, rel=0.1)


def test_what_the_others_used_long_ago_is_forgotten() -> None:
    made = control()
    for second in range(100):
        assert made.try_start(entry(), second)
        made.finish(entry(), second, second + 1.0)
    assert made.try_start(entry(), 100.0)
    patient = entry(Priority.BULK, deadline_s=3610.0)
    assert refused(made.wait(entry(Priority.BULK, deadline_s=110.0), 100.0)).kind is RefusalKind.TOO_LATE
    waits(made.wait(patient, 3600.0))


def test_calls_that_their_deadline_ended_do_not_make_the_model_look_fast() -> None:
    made = learnt(control(), call_s=1.0)
    before_s = made.estimate.seconds_of(100)
    made.finish(entry(), 0.0, 1.0)
    for _ in range(100):
        assert made.try_start(entry(deadline_s=0.1), 0.0)
        made.finish(entry(deadline_s=0.1), 0.0, 0.1)
    assert made.estimate.seconds_of(100) == pytest.approx(before_s, rel=0.01)


def test_calls_of_other_sizes_are_estimated_by_their_own_kind() -> None:
    made = control(capacity=2)
    for _ in range(100):
        for cost, call_s in ((10, 1.0), (4000, 0.1)):
            assert made.try_start(entry(cost=cost), 0.0)
            made.finish(entry(cost=cost), 0.0, call_s)
    assert made.estimate.seconds_of(10) == pytest.approx(1.0, rel=0.05)
    assert made.estimate.seconds_of(4000) == pytest.approx(0.1, rel=0.05)


def test_a_refusal_takes_less_than_a_millisecond_of_a_queue_of_many_tenants() -> None:
    made = learnt(control(size=10_000), call_s=1e-6)
    for number in range(10_000):
        waits(made.wait(entry(tenant=f"tenant-{number}"), 0.0))
    facts, count = entry(Priority.BULK), 1000
    started_s = time.process_time()
    for _ in range(count):
        assert isinstance(made.wait(facts, 0.0), Refuse)
        assert isinstance(made.wait(entry(tenant="tenant-1"), 0.0), Refuse)
    assert (time.process_time() - started_s) / (2 * count) < REFUSAL_S
