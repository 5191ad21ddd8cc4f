"""The queue of a model of vectors: turns, deadlines, callers who leave, and limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from inference_mesh.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidInputError,
    OverloadedError,
    ShuttingDownError,
)
from inference_mesh.v1 import payload_pb2
from tests.support.llama_engine import Counts
from workers.engine import EngineRequest, Stage
from workers.llama.text_batching import PackLimits
from workers.llama.text_context import FloatArray
from workers.llama.text_queue import Outcome, Run, TextQueue, compute_shares
from workers.priority import Priority


class Bench:
    """A queue whose batches are computed when the test says so. A text's vector is its tokens' sum."""

    def __init__(self, max_queue: int = 8, tokens: int = 100) -> None:
        self.runs: list[tuple[Run, Callable[[list[Outcome]], None]]] = []
        self.counts = Counts()
        self.queue = TextQueue(
            lambda run, finish: self.runs.append((run, finish)), PackLimits(tokens, 8), max_queue, self.counts
        )

    def ask(self, *texts: Sequence[int], **fields: object) -> asyncio.Task[list[FloatArray]]:
        """A request on its way."""
        request = EngineRequest(payload_pb2.Payload(), **fields)  # type: ignore[arg-type]
        return asyncio.ensure_future(self._answer(request, texts))

    async def _answer(self, request: EngineRequest, texts: Sequence[Sequence[int]]) -> list[FloatArray]:
        ticket = self.queue.admit(request)
        try:
            return await self.queue.compute(ticket, texts)
        finally:
            self.queue.leave(ticket)

    def compute(self) -> Run:
        """Compute the batch that is at work."""
        run, finish = self.runs.pop(0)
        finish(compute_shares(run, sums))
        return run


def sums(texts: Sequence[Sequence[int]]) -> FloatArray:
    """A vector of one number for each text; refuses texts that begin with -1."""
    if any(text[0] == -1 for text in texts):
        raise InvalidInputError("a text is refused")
    return np.array([[sum(text)] for text in texts], dtype=np.float32)


def lengths(run: Run) -> list[int]:
    """How many texts each request has in a batch."""
    return [len(positions) for _, positions in run.shares]


async def started(*tasks: asyncio.Task[list[FloatArray]]) -> None:
    """Let the requests reach the queue."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_what_waits_while_a_batch_is_computed_forms_the_next_one() -> None:
    bench = Bench()
    first = bench.ask([1])
    await started(first)
    others = [bench.ask([2]), bench.ask([3, 4], [5])]
    await started(*others)
    assert lengths(bench.compute()) == [1]
    assert lengths(bench.compute()) == [1, 2]
    answers = await asyncio.gather(first, *others)
    assert [[float(vector[0]) for vector in answer] for answer in answers] == [[1], [2], [7, 5]]
    assert bench.counts.batches == [1, 3]


async def test_a_large_request_is_answered_in_order_over_several_batches() -> None:
    bench = Bench(tokens=10)
    answer = bench.ask(*([number] * 4 for number in range(5)))
    await started(answer)
    while bench.runs:
        bench.compute()
    assert [float(vector[0]) for vector in await answer] == [0, 4, 8, 12, 16]


async def test_a_higher_priority_goes_first_and_equals_take_turns() -> None:
    bench = Bench(tokens=1)
    blocking = bench.ask([0])
    await started(blocking)
    bulk = bench.ask([1], [1], priority=Priority.BULK)
    await started(bulk)
    high = bench.ask([2], priority=Priority.HIGH)
    await started(high)
    order = [run.shares[0][0].texts[0][0] for run in iter_runs(bench)]
    assert order == [0, 2, 1, 1]
    await asyncio.gather(blocking, bulk, high)


def iter_runs(bench: Bench) -> list[Run]:
    """Compute until nothing waits; the batches."""
    found = []
    while bench.runs:
        found.append(bench.compute())
    return found


async def test_a_request_whose_deadline_passed_in_the_queue_is_not_computed() -> None:
    bench = Bench()
    first = bench.ask([1])
    await started(first)
    late = bench.ask([2], deadline=asyncio.get_running_loop().time())
    await started(late)
    bench.compute()
    assert not bench.runs
    with pytest.raises(DeadlineExceededError):
        await late
    assert bench.counts.dropped == 1
    await first


async def test_a_caller_who_leaves_takes_its_texts_out_of_the_next_batch() -> None:
    bench = Bench()
    first = bench.ask([1])
    await started(first)
    leaving, staying = bench.ask([2]), bench.ask([3])
    await started(leaving, staying)
    leaving.cancel()
    await started()
    bench.compute()
    assert lengths(bench.compute()) == [1]
    assert [float(vector[0]) for vector in await staying] == [3]
    assert bench.counts.dropped == 1
    await first


async def test_a_batch_whose_callers_have_all_left_is_given_up() -> None:
    bench = Bench()
    leaving = bench.ask([1])
    await started(leaving)
    run = bench.runs[0][0]
    assert not run.is_abandoned
    leaving.cancel()
    await started()
    assert run.is_abandoned
    assert isinstance(compute_shares(run, sums)[0], InternalError)


async def test_texts_that_cannot_be_computed_fail_their_own_request_alone() -> None:
    bench = Bench()
    first = bench.ask([1])
    await started(first)
    broken, sound = bench.ask([-1]), bench.ask([2])
    await started(broken, sound)
    bench.compute()
    bench.compute()
    with pytest.raises(InvalidInputError):
        await broken
    assert [float(vector[0]) for vector in await sound] == [2]
    await first


async def test_numbers_that_are_not_finite_are_an_error_and_never_an_answer() -> None:
    bench = Bench()
    answer = bench.ask([1])
    await started(answer)
    run, finish = bench.runs.pop()
    finish(compute_shares(run, lambda texts: np.full((len(texts), 2), np.nan, dtype=np.float32)))
    with pytest.raises(InternalError):
        await answer


async def test_a_full_queue_refuses_with_a_hint() -> None:
    bench = Bench(max_queue=2)
    asked = [bench.ask([1]) for _ in range(3)]
    await started(*asked)
    with pytest.raises(OverloadedError) as refused:
        bench.queue.admit(EngineRequest(payload_pb2.Payload()))
    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s > 0
    iter_runs(bench)
    await asyncio.gather(*asked)
    assert bench.queue.load_now(slots=8).queued == 0


async def test_closing_fails_what_waits_and_what_runs() -> None:
    bench = Bench(tokens=1)
    asked = [bench.ask([1]), bench.ask([1])]
    await started(*asked)
    bench.queue.close()
    for outcome in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(outcome, ShuttingDownError)
    with pytest.raises(ShuttingDownError):
        bench.queue.admit(EngineRequest(payload_pb2.Payload()))


async def test_the_load_and_the_stages_tell_what_happened() -> None:
    bench = Bench()
    stages: list[Stage] = []
    first, second = bench.ask([1], stages=stages), bench.ask([2])
    await started(first, second)
    load = bench.queue.load_now(slots=8)
    assert (load.running, load.queued, load.utilization, load.slots) == (1, 1, 1.0, 8)
    iter_runs(bench)
    await asyncio.gather(first, second)
    assert [stage.name for stage in stages] == ["queue", "batch"]
    assert stages[1].facts["mesh.batch.rows"] == 1
