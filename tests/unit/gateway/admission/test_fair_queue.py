"""The order of waiting calls: classes first, then the tenants' shares."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.admission.entry import EntryFacts
from gateway.policy.admission.fair_class import LATER_CALLS, Place
from gateway.policy.admission.fair_queue import FairQueue
from gateway.policy.facts import Priority

TOLERANCE = 0.05
PASSERS_BYTES = 100_000
"""What those may hold that are remembered of any number of tenants that do not wait."""
PRIORITIES = st.sampled_from(list(Priority))


def entry(
    tenant: str = "acme", priority: Priority = Priority.NORMAL, *, cost: int = 10, weight: float = 1.0
) -> EntryFacts:
    return EntryFacts(tenant, weight, priority, cost)


def added(queue: FairQueue, facts: EntryFacts) -> Place:
    place = Place(facts, 0.0, 1.0)
    queue.add(place)
    return place


def started(queue: FairQueue) -> Place:
    head = queue.head()
    assert head is not None
    queue.start(head)
    return head


def test_a_class_waits_for_the_ones_before_it() -> None:
    queue = FairQueue()
    for priority in (Priority.BULK, Priority.NORMAL, Priority.HIGH, Priority.NORMAL):
        added(queue, entry(priority=priority))
    order = [started(queue).entry.priority for _ in range(4)]
    assert order == [Priority.HIGH, Priority.NORMAL, Priority.NORMAL, Priority.BULK]
    assert queue.head() is None


def test_the_calls_of_a_tenant_keep_their_order() -> None:
    queue = FairQueue()
    places = [added(queue, entry(cost=cost)) for cost in (50, 1, 20)]
    assert [started(queue) for _ in places] == places


def test_waiting_tenants_get_tokens_by_their_weights_whatever_the_size_of_their_calls() -> None:
    queue, choose = FairQueue(), random.Random(1)
    weights = {"small": 1.0, "middle": 2.0, "large": 4.0}
    longest = {"small": 500, "middle": 50, "large": 100}

    def add(tenant: str) -> None:
        added(queue, entry(tenant, cost=choose.randint(1, longest[tenant]), weight=weights[tenant]))

    for tenant in weights:
        for _ in range(10):
            add(tenant)
    served: Counter[str] = Counter()
    for _ in range(10_000):
        place = started(queue)
        served[place.entry.tenant] += place.entry.cost
        add(place.entry.tenant)
    unit = served.total() / sum(weights.values())
    for tenant, weight in weights.items():
        assert served[tenant] == pytest.approx(weight * unit, rel=TOLERANCE)


def test_a_tenant_with_one_call_does_not_wait_for_the_backlog_of_another() -> None:
    queue = FairQueue()
    for _ in range(100):
        added(queue, entry("greedy"))
    started(queue)
    late = added(queue, entry("modest"))
    assert started(queue) is late


def test_a_call_that_leaves_the_queue_costs_its_tenant_nothing() -> None:
    queue = FairQueue()
    for tenant in ("one", "two"):
        added(queue, entry(tenant))
    left = [added(queue, entry("one", cost=1_000_000)) for _ in range(3)]
    for place in left:
        queue.remove(place)
    later = [added(queue, entry(tenant)) for tenant in ("one", "two")]
    order = [started(queue).entry.tenant for _ in range(4)]
    assert Counter(order[:2]) == Counter(order[2:]) == Counter(("one", "two"))
    assert all(place.entry.cost == 10 for place in later)


def test_who_had_their_turn_gains_nothing_by_having_nothing_wait_for_a_moment() -> None:
    queue = FairQueue()
    for _ in range(3):
        added(queue, entry("steady"))
    first = added(queue, entry("coming and going", cost=30))
    while started(queue) is not first:
        pass
    added(queue, entry("coming and going", cost=30))
    order = [started(queue).entry.tenant for _ in range(3)]
    assert order == ["steady", "steady", "coming and going"]


def test_who_was_away_has_saved_nothing_up() -> None:
    queue = FairQueue()
    for _ in range(30):
        added(queue, entry("steady"))
    added(queue, entry("away"))
    for _ in range(20):
        started(queue)
    for _ in range(4):
        added(queue, entry("away"))
    order = [started(queue).entry.tenant for _ in range(4)]
    assert Counter(order) == {"steady": 2, "away": 2}


def test_a_newcomer_of_a_higher_class_displaces_the_newest_of_the_lowest() -> None:
    queue = FairQueue()
    classes = (Priority.NORMAL, Priority.BULK, Priority.BULK)
    newest = [added(queue, entry(priority=priority)) for priority in classes][-1]
    assert queue.displaced_by(entry(priority=Priority.HIGH)) is newest
    assert queue.displaced_by(entry(priority=Priority.NORMAL)) is newest


def test_a_newcomer_of_a_lower_class_displaces_nobody() -> None:
    queue = FairQueue()
    added(queue, entry(priority=Priority.NORMAL))
    assert queue.displaced_by(entry(priority=Priority.BULK)) is None


def test_a_full_queue_of_one_tenant_has_room_for_another() -> None:
    queue = FairQueue()
    newest = [added(queue, entry("greedy")) for _ in range(5)][-1]
    assert queue.displaced_by(entry("modest")) is newest
    assert queue.displaced_by(entry("greedy")) is None


def test_tenants_with_equal_shares_of_a_full_queue_do_not_displace_each_other() -> None:
    queue = FairQueue()
    for tenant in ("one", "two", "one", "two"):
        added(queue, entry(tenant))
    assert queue.displaced_by(entry("one")) is None
    assert queue.displaced_by(entry("two")) is None


def test_a_heavier_tenant_may_have_more_waiting() -> None:
    queue = FairQueue()
    for _ in range(4):
        added(queue, entry("heavy", weight=4.0))
    assert queue.displaced_by(entry("light")) is None
    assert queue.displaced_by(entry("light", cost=9)) is not None


def test_what_is_before_a_call_is_what_its_share_lets_go_first() -> None:
    queue = FairQueue()
    for _ in range(10):
        added(queue, entry("greedy"))
    assert queue.cost_before(entry("greedy")) == 100
    assert queue.cost_before(entry("modest")) == 0
    for _ in range(2):
        added(queue, entry("modest"))
    assert queue.cost_before(entry("modest")) == 40
    assert queue.cost_before(entry("modest", Priority.HIGH)) == 0
    assert queue.cost_before(entry("modest", Priority.BULK)) == 120


def test_calls_that_left_the_queue_do_not_count_as_before_a_call() -> None:
    queue = FairQueue()
    for _ in range(10):
        added(queue, entry("greedy"))
    for place in [added(queue, entry("modest", cost=20)), added(queue, entry("gone", weight=7.0))]:
        queue.remove(place)
    for _ in range(2):
        added(queue, entry("modest"))
    assert queue.cost_before(entry("modest")) == 40


@pytest.mark.parametrize("starts", ["some start", "none start"])
def test_tenants_that_came_and_went_are_not_remembered_while_others_wait(starts: str) -> None:
    queue = FairQueue()
    added(queue, entry("steady", cost=10**9))

    def pass_by(numbers: range) -> None:
        for number in numbers:
            queue.remove(added(queue, entry(f"passer-{number}")))
            if starts == "some start" and number % 2:
                added(queue, entry("steady"))
                started(queue)

    tracemalloc.start()
    try:
        pass_by(range(2000))
        before, _ = tracemalloc.get_traced_memory()
        pass_by(range(2000, 10_000))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < PASSERS_BYTES


@given(st.lists(st.tuples(st.sampled_from("abc"), PRIORITIES, st.integers(1, 5), st.integers(0, 3))))
def test_every_call_leaves_the_queue_once_in_the_order_of_classes_and_of_its_tenant(
    steps: list[tuple[str, Priority, int, int]],
) -> None:
    queue, waiting = FairQueue(), list[Place]()
    for tenant, priority, cost, action in steps:
        if action == 0 and waiting:
            queue.remove(waiting.pop(cost % len(waiting)))
        elif action == 1 and waiting:
            place = started(queue)
            same = [one for one in waiting if one.entry.tenant == place.entry.tenant]
            assert place.entry.priority == min(one.entry.priority for one in waiting)
            assert place is next(one for one in same if one.entry.priority == place.entry.priority)
            waiting.remove(place)
        else:
            waiting.append(added(queue, entry(tenant, priority, cost=cost)))
        assert queue.depth == len(waiting) == sum(map(queue.depth_of, Priority))
        before = sum(place.entry.cost for place in waiting)
        assert 0 <= queue.cost_before(entry(tenant, Priority.BULK)) <= LATER_CALLS * before
    for _ in range(len(waiting)):
        started(queue)
    assert queue.head() is None
    assert queue.cost_before(entry("a", Priority.BULK)) == 0
