"""Admission, step plans and making room, without a model."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from workers.llama.job import Job
from workers.llama.prefix_cache import PrefixCache
from workers.llama.sampling import SamplingParams
from workers.llama.scheduler import SETTLED_TOKENS, Scheduler
from workers.llama.text_stream import TextStream


def job(tokens: Sequence[int], **fields: object) -> Job:
    """A job with this prompt."""
    return Job(list(tokens), len(tokens), 100, SamplingParams(), TextStream(), 0.0, **fields)  # type: ignore[arg-type]


def prompt(first: int, length: int) -> list[int]:
    """A prompt that shares nothing with those of another `first`."""
    return [first * 1000 + index for index in range(length)]


def scheduler(slots: int = 2, batch_tokens: int = 16, prefill_chunk: int = 8) -> Scheduler:
    """A scheduler with two sequences a slot."""
    cache = PrefixCache(2 * slots, 1000)
    return Scheduler(cache, slots=slots, batch_tokens=batch_tokens, prefill_chunk=prefill_chunk)


def step(under_test: Scheduler, seconds: float = 0.0) -> list[tuple[Job, int, int]]:
    """Compute one step, each job with logits getting one token; job, start, count of its rows."""
    under_test.admit()
    rows = under_test.plan()
    wanting = [row.job for row in rows if row.wants_logits]
    under_test.computed(rows, seconds)
    for ready in wanting:
        ready.tokens.append(7)
    return [(row.job, row.start, row.count) for row in rows]


def test_no_more_jobs_run_than_there_are_slots() -> None:
    under_test = scheduler(slots=2)
    for index in range(3):
        under_test.enqueue(job(prompt(index, 4)))
    under_test.admit()
    assert (len(under_test.running), len(under_test.waiting)) == (2, 1)


def test_a_lone_prompt_is_computed_in_whole_batches() -> None:
    under_test = scheduler()
    only = job(prompt(1, 20))
    under_test.enqueue(only)
    assert step(under_test) == [(only, 0, 16)]
    assert step(under_test) == [(only, 16, 4)]
    assert step(under_test) == [(only, 20, 1)]


def test_a_long_prompt_delays_the_tokens_of_others_by_one_chunk_at_most() -> None:
    under_test = scheduler()
    short, long = job(prompt(1, 2)), job(prompt(2, 30))
    under_test.enqueue(short)
    for _ in range(SETTLED_TOKENS):
        step(under_test)
    under_test.enqueue(long)
    assert step(under_test) == [(short, 5, 1), (long, 0, 8)]
    assert step(under_test) == [(short, 6, 1), (long, 8, 8)]


def test_prompts_that_come_together_are_computed_before_their_streams_run() -> None:
    under_test = scheduler()
    short, long = job(prompt(1, 2)), job(prompt(2, 30))
    under_test.enqueue(short)
    under_test.enqueue(long)
    assert step(under_test) == [(short, 0, 2), (long, 0, 14)]
    assert step(under_test) == [(short, 2, 1), (long, 14, 15)]


def test_on_a_slow_model_chunks_shrink() -> None:
    under_test = scheduler(batch_tokens=512, prefill_chunk=128)
    first, second = job(prompt(1, 2000)), job(prompt(2, 2000))
    under_test.enqueue(first)
    assert step(under_test, seconds=2.56) == [(first, 0, 512)]
    # 5 ms a token: 50 of them in the 250 ms while nobody generates.
    assert step(under_test, seconds=0.25) == [(first, 512, 50)]
    under_test.enqueue(second)
    assert step(under_test, seconds=0.25) == [(first, 562, 50)]


def test_beside_running_streams_chunks_are_such_that_their_tokens_do_not_wait_for_long() -> None:
    under_test = scheduler(batch_tokens=512, prefill_chunk=128)
    short, long = job(prompt(1, 200)), job(prompt(2, 2000))
    under_test.enqueue(short)
    step(under_test, seconds=0.2)
    for _ in range(SETTLED_TOKENS - 1):
        step(under_test, seconds=0.02)
    under_test.enqueue(long)
    # 1 ms a token, and 20 ms a step without prompts: 40 ms may it take with them.
    assert step(under_test) == [(short, 203, 1), (long, 0, 40)]


def test_a_prompt_waits_for_the_one_who_computes_its_beginning() -> None:
    under_test = scheduler(slots=3, batch_tokens=64, prefill_chunk=32)
    shared = prompt(1, 90)
    first, second, other = job([*shared, 1]), job([*shared, 2]), job(prompt(9, 4))
    for each in (first, second, other):
        under_test.enqueue(each)
    step(under_test)
    assert list(under_test.running) == [first, other]
    step(under_test)
    under_test.admit()
    assert second in under_test.running
    # Waiting for the last chunk would save fewer tokens than are worth it.
    assert second.cached >= len(shared) - 32


def test_jobs_of_different_tenants_do_not_wait_for_each_other() -> None:
    under_test = scheduler()
    shared = prompt(1, 40)
    under_test.enqueue(job(shared, tenant="one"))
    under_test.enqueue(job(shared, tenant="two"))
    under_test.admit()
    assert len(under_test.running) == 2


def test_jobs_that_nobody_waits_for_are_found_queued_or_running() -> None:
    under_test = scheduler(slots=1)
    late, cancelled, alive = job([1], deadline=5.0), job([2], is_cancelled=True), job([3], deadline=9.0)
    for each in (late, cancelled, alive):
        under_test.enqueue(each)
    under_test.admit()
    assert under_test.gone(now=5.0) == [cancelled, late]


def test_room_is_made_by_idle_prefixes_first_and_then_by_the_youngest() -> None:
    under_test = scheduler(slots=2)
    done, old, young = job(prompt(1, 10)), job(prompt(2, 4)), job(prompt(3, 4))
    under_test.enqueue(done)
    step(under_test)
    under_test.end(done)
    under_test.enqueue(old)
    under_test.enqueue(young)
    step(under_test)
    assert under_test.make_room()
    assert list(under_test.running) == [old, young]
    assert under_test.make_room()
    assert list(under_test.running) == [old]
    assert (young.computed, young.sequence) == (0, -1)
    assert under_test.make_room() == ()


def test_nobody_is_admitted_after_a_preemption_until_a_job_ends() -> None:
    under_test = scheduler(slots=3)
    old, young, new = job(prompt(1, 4)), job(prompt(2, 4)), job(prompt(3, 4))
    under_test.enqueue(old)
    under_test.enqueue(young)
    step(under_test)
    under_test.make_room()
    under_test.enqueue(new)
    under_test.admit()
    assert list(under_test.running) == [old]
    under_test.end(old)
    under_test.admit()
    assert list(under_test.running) == [young, new]


def test_the_next_job_is_the_one_whose_turn_is_first_and_of_equal_ones_the_one_that_came_first() -> None:
    under_test = scheduler(slots=1)
    jobs = [job(prompt(at, 4), turn_s=turn) for at, turn in enumerate((5.0, 1.0, 5.0, 0.0))]
    for waiting in jobs:
        under_test.enqueue(waiting)
    assert list(under_test.waiting) == [jobs[3], jobs[1], jobs[0], jobs[2]]
    under_test.admit()
    assert under_test.running == [jobs[3]]


def test_a_preempted_job_goes_before_newcomers_of_any_class() -> None:
    under_test = scheduler(slots=2)
    old, young, newcomer = job(prompt(1, 4)), job(prompt(2, 4)), job(prompt(3, 4), turn_s=-1e9)
    under_test.enqueue(old)
    under_test.enqueue(young)
    step(under_test)
    under_test.make_room()
    under_test.enqueue(newcomer)
    assert list(under_test.waiting) == [young, newcomer]


def test_a_preempted_job_goes_on_with_the_tokens_it_made() -> None:
    under_test = scheduler(slots=2)
    old, young = job(prompt(1, 4)), job(prompt(2, 4))
    under_test.enqueue(old)
    under_test.enqueue(young)
    step(under_test)
    under_test.make_room()
    under_test.end(old)
    assert step(under_test) == [(young, 0, 5)]


def test_losing_the_memory_drops_the_running_jobs_and_keeps_the_queue() -> None:
    under_test = scheduler(slots=1)
    lost, queued = job(prompt(1, 4)), job(prompt(2, 4))
    under_test.enqueue(lost)
    under_test.enqueue(queued)
    step(under_test)
    assert under_test.drop_all() == [lost]
    assert step(under_test) == [(queued, 0, 4)]


lengths = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@given(lengths, st.integers(1, 3))
def test_every_job_gets_its_tokens_and_no_step_exceeds_the_batch(sizes: list[int], slots: int) -> None:
    under_test = scheduler(slots=slots)
    jobs = [job(prompt(index, size)) for index, size in enumerate(sizes)]
    for each in jobs:
        under_test.enqueue(each)
    for _ in range(200):
        rows = step(under_test)
        assert sum(count for _, _, count in rows) <= 16
        for done in [each for each in under_test.running if each.made >= 3]:
            under_test.end(done)
        if not under_test.has_work:
            break
    assert all(each.made == 3 for each in jobs)
