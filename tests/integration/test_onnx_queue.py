"""The ONNX engine under load: batches, deadlines, cancellation, a full queue, the end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from inference_mesh.errors import (
    DeadlineExceededError,
    InvalidInputError,
    ModelNotReadyError,
    OverloadedError,
    ShuttingDownError,
)
from tests.support.onnx_engine import (
    SLOW_ROWS,
    Counts,
    answer,
    answer_or_error,
    arrays_of,
    embed_payload,
    index_payload,
    occupy,
    running,
    until,
)
from tests.support.onnx_models import lookup_model, token_vectors_model, write, write_tokenizer
from workers.engine import Chunk
from workers.onnx.engine import OnnxEngine
from workers.onnx.settings import OnnxSettings
from workers.priority import Priority

HIGH, NORMAL, BULK = Priority.HIGH, Priority.NORMAL, Priority.BULK


@pytest.fixture
def lookup(tmp_path: Path) -> Path:
    """A model that is slow on many rows and fails on an index of 4 or more."""
    return write(lookup_model(), tmp_path / "lookup")


async def test_requests_that_queued_are_computed_together(lookup: Path) -> None:
    observer = Counts()
    async with running(lookup, observer, sessions=1) as engine, asyncio.TaskGroup() as group:
        await occupy(engine, group)
        rest = [
            group.create_task(answer(engine, index_payload(*[place % 4] * (1 + place % 2))))
            for place in range(8)
        ]
    assert observer.batches == [1, 8]
    for place, task in enumerate(rest):
        vectors = arrays_of(task.result())["vector"]
        assert vectors.shape == (1 + place % 2, 256)
        assert np.all(vectors == place % 4)


async def test_only_the_guilty_member_of_a_batch_fails(lookup: Path) -> None:
    async with running(lookup, sessions=1) as engine, asyncio.TaskGroup() as group:
        await occupy(engine, group)
        members = [
            group.create_task(answer_or_error(engine, index_payload(index))) for index in (1, 2, 99, 3)
        ]
    results = [task.result() for task in members]
    assert isinstance(results[2], InvalidInputError)
    for place in (0, 1, 3):
        chunk = results[place]
        assert isinstance(chunk, Chunk)
        assert np.all(arrays_of(chunk)["vector"] == [1, 2, 99, 3][place])


async def test_a_request_cancelled_in_the_queue_is_not_computed(lookup: Path) -> None:
    observer = Counts()
    async with running(lookup, observer, sessions=1) as engine, asyncio.TaskGroup() as group:
        await occupy(engine, group)
        leaving = group.create_task(answer(engine, index_payload(1)))
        staying = group.create_task(answer(engine, index_payload(2)))
        await until(lambda: engine.load_now().queued == 2)
        leaving.cancel()
        await until(lambda: engine.load_now().queued == 1)
    assert np.all(arrays_of(staying.result())["vector"] == 2)
    assert observer.batches == [1, 1]
    assert observer.dropped == 1


async def test_a_request_whose_deadline_passes_in_the_queue_is_not_computed(lookup: Path) -> None:
    observer = Counts()
    async with running(lookup, observer, sessions=1) as engine, asyncio.TaskGroup() as group:
        slow = await occupy(engine, group)
        with pytest.raises(DeadlineExceededError):
            await answer(engine, index_payload(1), timeout_s=0.01)
        assert not slow.done()
    assert observer.batches == [1]
    assert observer.dropped == 1


async def test_a_request_that_comes_too_late_is_not_computed(lookup: Path) -> None:
    observer = Counts()
    async with running(lookup, observer) as engine:
        with pytest.raises(DeadlineExceededError):
            await answer(engine, index_payload(1), timeout_s=-1.0)
    assert observer.batches == []


async def test_a_run_that_nobody_waits_for_is_stopped(lookup: Path) -> None:
    loop = asyncio.get_running_loop()
    async with running(lookup, sessions=1) as engine, asyncio.TaskGroup() as group:
        started = loop.time()
        await (await occupy(engine, group))
        whole_s = loop.time() - started
        slow = await occupy(engine, group)
        slow.cancel()
        cancelled = loop.time()
        await answer(engine, index_payload(1))
        assert loop.time() - cancelled < whole_s / 2


async def test_a_full_queue_is_refused_with_a_hint(lookup: Path) -> None:
    async with running(lookup, sessions=1, max_queue=3) as engine, asyncio.TaskGroup() as group:
        await occupy(engine, group)
        for _ in range(3):
            group.create_task(answer(engine, index_payload(1)))
        await until(lambda: engine.load_now().queued == 3)
        with pytest.raises(OverloadedError) as refusal:
            await answer(engine, index_payload(1))
        assert refusal.value.retry_after_s is not None


async def test_what_waits_has_its_turn_by_priority(tmp_path: Path) -> None:
    ended: list[str] = []
    fixed = write(lookup_model(), tmp_path / "fixed", {"batching": False})
    async with running(fixed, sessions=1) as engine, asyncio.TaskGroup() as group:

        async def visit(name: str, priority: Priority) -> None:
            await answer(engine, index_payload(1), priority=priority)
            ended.append(name)

        await occupy(engine, group)
        for name, priority in (("bulk", BULK), ("first", NORMAL), ("second", NORMAL), ("high", HIGH)):
            group.create_task(visit(name, priority))
        await until(lambda: engine.load_now().queued == 4)
    assert ended == ["high", "first", "second", "bulk"]


async def test_a_storm_of_deadlines_costs_no_work_and_leaves_nothing_behind(lookup: Path) -> None:
    observer = Counts()
    async with running(lookup, observer, sessions=1, max_queue=500) as engine:
        async with asyncio.TaskGroup() as group:
            await occupy(engine, group)
            storm = [
                group.create_task(answer_or_error(engine, index_payload(1), timeout_s=0.01))
                for _ in range(200)
            ]
        assert {type(late.result()) for late in storm} == {DeadlineExceededError}
        assert observer.batches == [1]
        assert 0 < observer.dropped <= len(storm)  # one that came too late was not even queued
        assert (engine.load_now().queued, engine.load_now().running) == (0, 0)
        await answer(engine, index_payload(1), timeout_s=1.0)


async def test_the_load_counts_sessions_and_requests(lookup: Path) -> None:
    async with running(lookup, sessions=2) as engine, asyncio.TaskGroup() as group:
        assert (engine.load_now().utilization, engine.load_now().queued) == (0.0, 0)
        await occupy(engine, group)
        assert engine.load_now().utilization == 0.5
        assert engine.load_now().slots == engine.model.slots == 2 * 32


async def test_a_model_that_runs_requests_singly_has_few_slots(tmp_path: Path) -> None:
    fixed = write(lookup_model(), tmp_path / "fixed", {"batching": False})
    async with running(fixed, sessions=2) as engine:
        assert engine.model.slots == 2 * 4


async def test_closing_fails_what_runs_and_what_waits(lookup: Path) -> None:
    engine = OnnxEngine(OnnxSettings(lookup, "model", sessions=1), Counts())
    await engine.load()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(answer_or_error(engine, index_payload(*[1] * rows)))
            for rows in (SLOW_ROWS, 1, 1)
        ]
        await until(lambda: engine.load_now().queued == 2)
        await engine.close()
    assert [type(task.result()) for task in tasks] == [ShuttingDownError] * 3
    with pytest.raises(ShuttingDownError):
        await answer(engine, index_payload(1))


async def test_an_engine_that_is_not_loaded_says_so(lookup: Path) -> None:
    with pytest.raises(ModelNotReadyError):
        await answer(OnnxEngine(OnnxSettings(lookup, "model"), Counts()), index_payload(1))


async def test_one_request_of_many_texts_uses_every_idle_session(tmp_path: Path) -> None:
    observer = Counts()
    write_tokenizer(tmp_path)
    async with running(write(token_vectors_model(), tmp_path), observer, sessions=2) as engine:
        await answer(engine, embed_payload(*["happy dog"] * 16))
    assert observer.batches == [8, 8]
