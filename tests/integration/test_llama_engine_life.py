"""The llama engine when callers leave, queues fill, cells run out and files are damaged."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from inference_mesh.errors import (
    DeadlineExceededError,
    MeshError,
    ModelNotReadyError,
    OverloadedError,
    ShuttingDownError,
)
from inference_mesh.v1 import payload_pb2
from tests.support.gguf_files import llama_file
from tests.support.llama_engine import (
    ENDLESS,
    QUESTIONS,
    STEADY,
    TINY_CHAT,
    Counts,
    after_history,
    ask,
    ask_all,
    begun,
    generate,
    question,
    running,
    sampled,
    until,
)
from workers.llama.engine import LlamaEngine
from workers.llama.settings import LlamaSettings
from workers.priority import Priority

WAITING = (
    ("bulk", Priority.BULK),
    ("first", Priority.NORMAL),
    ("second", Priority.NORMAL),
    ("high", Priority.HIGH),
)
LENGTH = payload_pb2.FINISH_REASON_LENGTH
BYTES_PER_CELL = 5 * 2 * 2 * 32 * 2
"""Layers, KV heads, keys and values, width, bytes of the tiny model."""


async def test_a_caller_who_leaves_frees_the_slot_at_once() -> None:
    async with running(slots=1) as engine:
        stream = await begun(engine, generate("Once", max_tokens=2000, sampling=ENDLESS))
        assert engine.load_now().running == 1
        await stream.aclose()
        assert await until(lambda: engine.load_now().running == 0) < 0.2
        assert engine.load_now().queued == 0


async def test_a_cancelled_reader_frees_the_slot_at_once_even_in_prefill() -> None:
    ids = [3 + at % 900 for at in range(2000)]
    async with running(slots=1) as engine:
        request = generate(tokens=payload_pb2.Tokens(ids=ids), max_tokens=40, sampling=ENDLESS)
        task = asyncio.ensure_future(ask(engine, request))
        await until(lambda: engine.load_now().queued + engine.load_now().running == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        freed = await until(lambda: engine.load_now().running + engine.load_now().queued == 0)
        assert freed < 0.2
        assert (await ask(engine, question("Who are you?"))).text


async def test_a_request_whose_deadline_passed_in_the_queue_is_not_run() -> None:
    counts = Counts()
    async with running(slots=1, observer=counts) as engine:
        stream = await begun(engine, generate("Once", max_tokens=1500, sampling=ENDLESS))
        now = asyncio.get_running_loop().time()
        with pytest.raises(DeadlineExceededError):
            await ask(engine, generate("Late", max_tokens=5, deadline=now + 0.05))
        await until(lambda: counts.dropped == 1)
        assert max(counts.batches) == 1
        await stream.aclose()


async def test_a_deadline_that_passes_in_the_answer_ends_it() -> None:
    counts = Counts()
    async with running(observer=counts) as engine:
        now = asyncio.get_running_loop().time()
        with pytest.raises(DeadlineExceededError):
            await ask(engine, generate("Once", max_tokens=2000, sampling=ENDLESS, deadline=now + 0.1))
        with pytest.raises(DeadlineExceededError):
            await ask(engine, generate("Once", deadline=now - 1))
        await until(lambda: engine.load_now().running == 0)
        assert counts.dropped == 0


async def test_a_storm_of_deadlines_costs_no_work_and_leaves_nothing_behind() -> None:
    counts = Counts()
    async with running(slots=1, max_queue=500, observer=counts) as engine:
        slow = await begun(engine, generate("Once", max_tokens=2000, sampling=ENDLESS))
        deadline = asyncio.get_running_loop().time() + 0.3
        storm = [generate("Late", max_tokens=50, deadline=deadline) for _ in range(200)]
        results = await asyncio.gather(*(ask(engine, late) for late in storm), return_exceptions=True)
        assert {type(result) for result in results} == {DeadlineExceededError}
        await until(lambda: counts.dropped == len(storm))
        assert engine.load_now().queued == 0
        assert max(counts.batches) == 1
        await slow.aclose()
        now = asyncio.get_running_loop().time()
        assert (await ask(engine, question("Who are you?", deadline=now + 1))).text
        assert counts.dropped == len(storm)


async def test_no_token_is_made_for_a_caller_who_left() -> None:
    counts = Counts()
    async with running(slots=2, observer=counts) as engine:
        stream = await begun(engine, generate("Once", max_tokens=2000, sampling=ENDLESS))
        await stream.aclose()
        await until(lambda: engine.load_now().running == 0)
        computed = len(counts.batches)
        await ask(engine, question("Who are you?", max_tokens=1))
        assert len(counts.batches) <= computed + 2


async def test_what_waits_has_its_turn_by_priority_and_then_by_arrival() -> None:
    ended: list[str] = []
    async with running(slots=1) as engine:

        async def visit(name: str, priority: Priority) -> None:
            await ask(engine, generate("Once", max_tokens=3, priority=priority))
            ended.append(name)

        slow = await begun(engine, generate("Once", max_tokens=2000, sampling=ENDLESS))
        async with asyncio.TaskGroup() as group:
            for name, priority in WAITING:
                group.create_task(visit(name, priority))
                await asyncio.sleep(0)
            await until(lambda: engine.load_now().queued == len(WAITING))
            await slow.aclose()
    assert ended == ["high", "first", "second", "bulk"]


async def test_a_full_queue_is_refused_with_a_hint() -> None:
    async with running(slots=1, max_queue=2) as engine:
        requests = [generate("Once", max_tokens=300, sampling=ENDLESS) for _ in range(3)]
        tasks = [asyncio.ensure_future(ask(engine, request)) for request in requests]
        await until(lambda: engine.load_now().running == 1 and engine.load_now().queued == 2)
        with pytest.raises(OverloadedError) as caught:
            await ask(engine, generate("Once"))
        assert caught.value.retry_after_s is not None
        assert caught.value.retry_after_s > 0
        assert [answer.finish_reason for answer in await asyncio.gather(*tasks)] == [LENGTH] * 3


async def test_more_requests_than_cells_all_end_and_are_right() -> None:
    requests = [after_history(text, tenant=text) for text in STEADY]
    async with running() as engine:
        expected = [await ask(engine, request) for request in requests]
    async with running(context_tokens=256, kv_cache_bytes=256 * BYTES_PER_CELL) as engine:
        answers = await ask_all(engine, *requests)
        assert engine.load_now().kv_utilization == 0
    assert sum(answer.usage.prompt_tokens for answer in answers) > 3 * 256
    assert [answer.text for answer in answers] == [answer.text for answer in expected]


async def test_long_requests_under_pressure_all_end() -> None:
    requests = [question(text, max_tokens=200, sampling=ENDLESS) for text in QUESTIONS]
    async with running(context_tokens=256, kv_cache_bytes=512 * BYTES_PER_CELL) as engine:
        answers = await ask_all(engine, *requests)
    assert [answer.usage.completion_tokens for answer in answers] == [200] * 8


async def test_closing_ends_what_runs_and_refuses_what_comes() -> None:
    async with running(slots=1) as engine:
        requests = [generate("Once", max_tokens=2000, sampling=ENDLESS) for _ in range(3)]
        tasks = [asyncio.ensure_future(ask(engine, request)) for request in requests]
        await until(lambda: engine.load_now().running == 1)
        await engine.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [ShuttingDownError] * 3
        with pytest.raises(ShuttingDownError):
            await ask(engine, generate("Once"))
        assert not engine.model.ready


@pytest.mark.parametrize("share", [0, 0.0001, 0.001, 0.01, 0.02, 0.5, 0.999])
async def test_a_truncated_model_is_refused_with_a_reason(tmp_path: Path, share: float) -> None:
    data = TINY_CHAT.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(data[: int(len(data) * share)])
    engine = LlamaEngine(LlamaSettings(path, "cut"), Counts())
    with pytest.raises(ModelNotReadyError) as caught:
        await engine.load()
    assert "cut.gguf" in caught.value.message
    with pytest.raises(ModelNotReadyError):
        await ask(engine, generate("Once"))
    await engine.close()


async def test_a_model_of_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(llama_file(general__architecture="unheard", unheard__block_count=1))
    with pytest.raises(ModelNotReadyError):
        await LlamaEngine(LlamaSettings(path, "other"), Counts()).load()


async def test_many_who_come_and_go_leave_nothing_behind() -> None:
    async with running(slots=4, context_tokens=256, max_queue=100) as engine:

        async def visit(at: int) -> None:
            request = question(QUESTIONS[at % 8], max_tokens=30, sampling=sampled(at), tenant=str(at % 3))
            with contextlib.suppress(MeshError):
                async for _ in engine.submit(request):
                    if at % 4 == 1:
                        break

        await asyncio.gather(*(visit(at) for at in range(60)))
        await until(lambda: engine.load_now().running + engine.load_now().queued == 0)
        assert engine.load_now().kv_utilization == 0
        assert (await ask(engine, question("Who are you?"))).text
