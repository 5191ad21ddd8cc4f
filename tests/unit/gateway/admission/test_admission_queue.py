"""Tickets, turns and timers of one target, on a clock that jumps."""

from __future__ import annotations

import asyncio
import random
import timeit
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.admission.admission_queue import AdmissionQueue, Ticket, Waiting
from gateway.admission.metrics import AdmissionMetrics
from gateway.policy.admission.entry import EntryFacts
from gateway.policy.facts import Priority, RefusalKind, Refuse
from inference_mesh.config.model_traffic import QueueSpec
from tests.support.virtual_time import run_in_virtual_time

MODEL = "chat"
ENTER_AND_LEAVE_S = 20e-6
"""Ten times what the way without a wait takes, for a machine that does much else."""


def queue_of(
    capacity: int = 1, size: int = 10, max_wait_s: float = 30.0, registry: CollectorRegistry | None = None
) -> AdmissionQueue:
    metrics = AdmissionMetrics(registry or CollectorRegistry())
    queue = AdmissionQueue(MODEL, QueueSpec(size=size, max_wait_s=max_wait_s), metrics, random.Random(1))
    queue.resize(capacity)
    return queue


def entry(
    priority: Priority = Priority.NORMAL, *, tenant: str = "acme", deadline_s: float | None = None
) -> EntryFacts:
    return EntryFacts(tenant, 1.0, priority, 100, deadline_s)


def now_s() -> float:
    return asyncio.get_running_loop().time()


def ticket(outcome: Ticket | Waiting | Refuse) -> Ticket:
    assert isinstance(outcome, Ticket)
    return outcome


def waiting(outcome: Ticket | Waiting | Refuse) -> Waiting:
    assert isinstance(outcome, Waiting)
    return outcome


def refused(outcome: Ticket | Waiting | Refuse) -> RefusalKind:
    assert isinstance(outcome, Refuse)
    return outcome.kind


async def settled() -> None:
    """Let every task go on as far as it can without time passing."""
    for _ in range(5):
        await asyncio.sleep(0)


async def entered(queue: AdmissionQueue, facts: EntryFacts) -> Ticket | Refuse:
    outcome = queue.try_enter(facts, now_s())
    return await outcome.turn() if isinstance(outcome, Waiting) else outcome


def in_virtual_time(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """The test, run on a loop whose clock jumps."""

    def run() -> None:
        async def main() -> None:
            await test()

        run_in_virtual_time(main())

    run.__name__ = test.__name__
    return run


@in_virtual_time
async def test_a_place_that_is_left_goes_to_the_first_who_waits() -> None:
    queue = queue_of()
    held = ticket(queue.try_enter(entry(), now_s()))
    async with asyncio.TaskGroup() as group:
        first, second = (group.create_task(entered(queue, entry())) for _ in range(2))
        await asyncio.sleep(3)
        assert (queue.in_flight, queue.depth) == (1, 2)
        held.leave(now_s())
        await settled()
        assert (first.done(), second.done()) == (True, False)
        assert ticket(first.result()).waited_s == 3
        ticket(first.result()).leave(now_s())
    ticket(second.result()).leave(now_s())
    assert (queue.in_flight, queue.depth) == (0, 0)


@in_virtual_time
async def test_a_ticket_that_is_left_twice_frees_one_place() -> None:
    queue = queue_of(capacity=2)
    held = [ticket(queue.try_enter(entry(), now_s())) for _ in range(2)]
    for _ in range(2):
        held[0].leave(now_s())
    assert queue.in_flight == 1


@in_virtual_time
async def test_a_call_whose_deadline_passes_in_the_queue_is_refused_before_it_and_never_started() -> None:
    queue = queue_of()
    held = ticket(queue.try_enter(entry(), now_s()))
    outcome = await entered(queue, entry(deadline_s=1.0))
    assert refused(outcome) is RefusalKind.TOO_LATE
    assert 0.9 < now_s() < 1.0
    assert (queue.in_flight, queue.depth) == (1, 0)
    held.leave(now_s())


@in_virtual_time
async def test_a_call_whose_time_is_over_at_the_hand_over_is_not_started_though_its_timer_is_late() -> None:
    queue = queue_of()
    held = ticket(queue.try_enter(entry(), 0.0))
    late = waiting(queue.try_enter(entry(deadline_s=1.0), 0.0))
    patient = waiting(queue.try_enter(entry(deadline_s=60.0), 0.0))
    held.leave(2.0)
    assert refused(await late.turn()) is RefusalKind.TOO_LATE
    ticket(await patient.turn()).leave(2.0)


@in_virtual_time
async def test_a_call_without_a_deadline_is_refused_after_the_longest_wait() -> None:
    queue = queue_of(max_wait_s=7.0)
    held = ticket(queue.try_enter(entry(), now_s()))
    assert refused(await entered(queue, entry())) is RefusalKind.TOO_LATE
    assert now_s() == 7.0
    held.leave(now_s())


@in_virtual_time
async def test_a_call_that_is_displaced_is_refused_at_once() -> None:
    queue = queue_of(size=1)
    held = ticket(queue.try_enter(entry(), now_s()))
    async with asyncio.TaskGroup() as group:
        bulk = group.create_task(entered(queue, entry(Priority.BULK)))
        await settled()
        high = group.create_task(entered(queue, entry(Priority.HIGH)))
        await settled()
        assert refused(bulk.result()) is RefusalKind.QUEUE_FULL
        held.leave(now_s())
    ticket(high.result()).leave(now_s())
    assert now_s() == 0


@in_virtual_time
async def test_a_caller_who_leaves_frees_the_place_in_the_queue_at_once() -> None:
    queue = queue_of(size=1)
    held = ticket(queue.try_enter(entry(), now_s()))
    task = asyncio.ensure_future(entered(queue, entry()))
    await settled()
    assert refused(queue.try_enter(entry(), now_s())) is RefusalKind.QUEUE_FULL
    task.cancel()
    await settled()
    assert queue.depth == 0
    held.leave(now_s())
    assert queue.in_flight == 0


@in_virtual_time
async def test_a_caller_who_leaves_at_the_moment_of_the_hand_over_passes_the_place_on() -> None:
    queue = queue_of()
    held = ticket(queue.try_enter(entry(), now_s()))
    leaving, staying = (asyncio.ensure_future(entered(queue, entry())) for _ in range(2))
    await settled()
    held.leave(now_s())
    leaving.cancel()
    await settled()
    assert leaving.cancelled()
    ticket(staying.result()).leave(now_s())
    assert (queue.in_flight, queue.depth) == (0, 0)


@in_virtual_time
async def test_a_caller_who_left_before_the_hand_over_is_not_handed_the_place() -> None:
    queue = queue_of()
    held = ticket(queue.try_enter(entry(), now_s()))
    leaving, staying = (asyncio.ensure_future(entered(queue, entry())) for _ in range(2))
    await settled()
    leaving.cancel()
    held.leave(now_s())
    await settled()
    assert leaving.cancelled()
    ticket(staying.result()).leave(now_s())
    assert (queue.in_flight, queue.depth) == (0, 0)


@in_virtual_time
async def test_more_capacity_starts_those_who_wait() -> None:
    queue = queue_of()
    held = ticket(queue.try_enter(entry(), now_s()))
    tasks = [asyncio.ensure_future(entered(queue, entry())) for _ in range(3)]
    await settled()
    queue.resize(3)
    await settled()
    assert [task.done() for task in tasks] == [True, True, False]
    assert queue.in_flight == 3
    for one in (held, *(ticket(task.result()) for task in tasks[:2])):
        one.leave(now_s())
    ticket(await tasks[2]).leave(now_s())


@in_virtual_time
async def test_less_capacity_ends_no_call_and_starts_none_until_there_is_room() -> None:
    queue = queue_of(capacity=3)
    held = [ticket(queue.try_enter(entry(), now_s())) for _ in range(3)]
    queue.resize(1)
    late = waiting(queue.try_enter(entry(), now_s()))
    for one in held[:2]:
        one.leave(now_s())
    assert not late.is_over
    held[2].leave(now_s())
    ticket(await late.turn()).leave(now_s())


@in_virtual_time
async def test_when_the_last_replica_is_gone_nobody_waits_for_it() -> None:
    queue = queue_of()
    held = ticket(queue.try_enter(entry(), now_s()))
    tasks = [asyncio.ensure_future(entered(queue, entry())) for _ in range(5)]
    await settled()
    queue.resize(0)
    await settled()
    for task in tasks:
        ticket(task.result()).leave(now_s())
    held.leave(now_s())
    assert (queue.in_flight, queue.depth) == (0, 0)


@in_virtual_time
async def test_waits_and_refusals_are_counted() -> None:
    registry = CollectorRegistry()
    queue = queue_of(size=1, registry=registry)
    held = ticket(queue.try_enter(entry(), now_s()))
    task = asyncio.ensure_future(entered(queue, entry()))
    await asyncio.sleep(2)
    assert refused(queue.try_enter(entry(), now_s())) is RefusalKind.QUEUE_FULL
    held.leave(now_s())
    ticket(await task).leave(now_s())
    labels = {"model": MODEL, "priority": "normal"}
    assert registry.get_sample_value("mesh_gateway_queue_wait_seconds_sum", labels) == 2
    assert registry.get_sample_value("mesh_gateway_queue_wait_seconds_count", labels) == 1
    refusals = registry.get_sample_value(
        "mesh_gateway_queue_refusals_total", {**labels, "reason": "queue_full"}
    )
    assert refusals == 1


def test_to_enter_without_a_wait_takes_a_few_microseconds() -> None:
    queue, facts = queue_of(), entry()

    def enter_and_leave() -> None:
        ticket(queue.try_enter(facts, 1.0)).leave(1.1)

    count = 5000
    assert min(timeit.repeat(enter_and_leave, number=count, repeat=5)) / count < ENTER_AND_LEAVE_S


ENTERS = st.tuples(
    st.just("enter"),
    st.sampled_from(list(Priority)),
    st.sampled_from("abc"),
    st.sampled_from([None, 1.0, 3.0]),
)
STEPS = st.one_of(
    ENTERS,
    ENTERS,
    st.tuples(st.sampled_from(["cancel", "leave", "resize"]), st.integers(0, 7)),
    st.tuples(st.sampled_from(["settle", "pass time"])),
)


class Crowd:
    """Callers who come, work, leave and lose patience, at any moment."""

    def __init__(self) -> None:
        self.queue = queue_of(capacity=2, size=3)
        self.tasks: list[asyncio.Task[None]] = []
        self.working: dict[asyncio.Task[None], asyncio.Event] = {}
        self.resized = 2

    def enter(self, priority: Priority, tenant: str, time_s: float | None) -> None:
        deadline_s = None if time_s is None else now_s() + time_s
        self.tasks.append(
            asyncio.ensure_future(self._call(entry(priority, tenant=tenant, deadline_s=deadline_s)))
        )

    def cancel(self, number: int) -> None:
        if self.tasks:
            self.tasks[number % len(self.tasks)].cancel()

    def leave(self, number: int) -> None:
        if self.working:
            list(self.working.values())[number % len(self.working)].set()

    def resize(self, number: int) -> None:
        self.resized = number
        self.queue.resize(number)

    async def settle(self) -> None:
        await settled()

    async def pass_time(self) -> None:
        await asyncio.sleep(0.7)

    async def _call(self, facts: EntryFacts) -> None:
        outcome = await entered(self.queue, facts)
        if isinstance(outcome, Refuse):
            return
        assert facts.deadline_s is None or now_s() < facts.deadline_s
        task = asyncio.current_task()
        assert task is not None
        self.working[task] = asyncio.Event()
        try:
            await self.working[task].wait()
        finally:
            del self.working[task]
            outcome.leave(now_s())


@given(st.lists(STEPS, max_size=60))
def test_nothing_leaks_whoever_leaves_at_whatever_moment(steps: list[tuple[object, ...]]) -> None:
    async def main() -> None:
        crowd = Crowd()
        for name, *arguments in steps:
            done = getattr(crowd, str(name).replace(" ", "_"))(*arguments)
            if done is not None:
                await done
                assert crowd.queue.in_flight == len(crowd.working)
            assert crowd.queue.depth <= 3
        await settled()
        waits = sum(not task.done() for task in crowd.tasks) - len(crowd.working)
        assert crowd.queue.depth == waits
        if waits and crowd.resized:
            assert crowd.queue.in_flight >= crowd.resized
        while not all(task.done() for task in crowd.tasks):
            crowd.leave(0)
            await crowd.pass_time()
        assert (crowd.queue.in_flight, crowd.queue.depth) == (0, 0)
        if crowd.resized:
            ticket(crowd.queue.try_enter(entry(), now_s())).leave(now_s())

    run_in_virtual_time(main())


@pytest.mark.parametrize("capacity", [1, 4])
def test_each_of_many_callers_has_one_turn(capacity: int) -> None:
    async def main() -> None:
        queue, choose, turns, working = queue_of(capacity, size=1000, max_wait_s=3600), random.Random(2), 0, 0

        async def call() -> None:
            nonlocal turns, working
            await asyncio.sleep(choose.random())
            outcome = ticket(await entered(queue, entry(tenant=choose.choice("abc"))))
            turns, working = turns + 1, working + 1
            assert working <= capacity
            await asyncio.sleep(choose.random())
            working -= 1
            outcome.leave(now_s())

        async with asyncio.TaskGroup() as group:
            for _ in range(300):
                group.create_task(call())
        assert turns == 300

    run_in_virtual_time(main())
