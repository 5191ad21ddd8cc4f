"""Streams of generated text that break, and go on elsewhere or end with an honest error."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.call import Call, WorkerStatusError
from inference_mesh.errors import DeadlineExceededError, StreamBrokenError
from inference_mesh.v1 import payload_pb2
from tests.support.processes import MeshProcess, ProcessGroup, process_group
from tests.support.upstreams import Upstream, client_of, generate, model_entry, running_upstream, two_workers

GREEDY = {"temperature": 0.0}
TWENTY = "".join(f"{number} " for number in range(20))


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[ProcessGroup]:
    with process_group(tmp_path) as group:
        yield group


def start_worker(processes: ProcessGroup, label: str) -> MeshProcess:
    worker = processes.start("tests.fakes.fake_worker", "--name", "chat", "--label", label, name=label)
    worker.wait_for_ports()
    return worker


def broken(upstream: Upstream, result: str) -> float:
    return upstream.metric("mesh_gateway_broken_streams_total", model="chat", result=result)


async def streamed(upstream: Upstream, commands: str, **sampling: float) -> Call:
    call = upstream.call()
    await upstream.stream(call, generate(commands, **sampling))
    return call


@pytest.mark.parametrize("sampling", [GREEDY, {"seed": 7, "temperature": 0.9}])
async def test_a_stream_that_breaks_goes_on_at_another_replica_without_a_seam(
    sampling: dict[str, float],
) -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        call = await streamed(upstream, "tokens=20 break=7", **sampling)
        client = client_of(call)
        assert client.text == TWENTY
        assert [bool(answer.model) for answer in client.answers] == [True] + [False] * 20
        assert [bool(answer.HasField("usage")) for answer in client.answers] == [False] * 20 + [True]
        assert call.usage == payload_pb2.Usage(prompt_tokens=3, completion_tokens=20)
        assert (call.delivered_tokens, call.prompt_tokens, call.resumed, call.attempts) == (20, 3, 1, 2)
        assert sorted(first.resumed_from + second.resumed_from) == [[], list(range(7))]
        assert broken(upstream, "resumed") == 1


async def test_a_stream_that_breaks_again_and_again_goes_on_as_long_as_each_replica_brings_something() -> (
    None
):
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        call = await streamed(upstream, "tokens=20 break=2,4,6,8,10,12", **GREEDY)
        assert client_of(call).text == TWENTY
        assert call.resumed == 6


@pytest.mark.parametrize("code", ["INTERNAL", "UNKNOWN", "DATA_LOSS"])
async def test_a_stream_whose_worker_fails_in_the_middle_goes_on_at_another_replica(code: str) -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        call = await streamed(upstream, f"tokens=20 break=7 as={code}", **GREEDY)
        assert client_of(call).text == TWENTY
        assert call.resumed == 1


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "INTERNAL"])
async def test_a_workers_own_word_in_the_middle_of_a_stream_that_cannot_go_on_is_told_as_it_is(
    code: str,
) -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        call = upstream.call()
        with pytest.raises(WorkerStatusError) as caught:
            await upstream.stream(call, generate(f"tokens=20 break=7 as={code}", temperature=0.5))
        assert caught.value.code.name == code
        assert (call.delivered_tokens, first.calls + second.calls) == (7, 1)


async def test_a_stream_that_every_replica_fails_on_is_not_tried_for_ever() -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        with pytest.raises((WorkerStatusError, StreamBrokenError)):
            await streamed(upstream, "tokens=20 break=7 as=INTERNAL quit=INTERNAL", **GREEDY)
        assert first.calls + second.calls <= 3


async def test_a_stream_that_breaks_behind_its_last_message_is_complete() -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        call = await streamed(upstream, "tokens=5 break=5", **GREEDY)
        assert client_of(call).text == "0 1 2 3 4 "
        assert call.usage == payload_pb2.Usage(prompt_tokens=3, completion_tokens=5)
        assert first.calls + second.calls == 1


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.5}])
async def test_text_that_depends_on_chance_ends_with_what_was_delivered(sampling: dict[str, float]) -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        call = upstream.call()
        with pytest.raises(StreamBrokenError) as caught:
            await upstream.stream(call, generate("tokens=20 break=7", **sampling))
        assert "after 7 tokens" in str(caught.value)
        assert call.delivered_tokens == 7
        assert first.calls + second.calls == 1
        assert broken(upstream, "ended") == 1


async def test_a_model_that_forbids_it_is_not_resumed() -> None:
    async with two_workers() as (first, second):
        async with running_upstream(model_entry(first, second, resume=False)) as upstream:
            with pytest.raises(StreamBrokenError):
                await streamed(upstream, "tokens=20 break=7", **GREEDY)
    assert first.calls + second.calls == 1


async def test_a_stream_of_several_answers_ends_where_it_broke() -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        asked = generate("tokens=20 break=7", **GREEDY)
        asked.payload.generate.n = 2
        with pytest.raises(StreamBrokenError):
            await upstream.stream(upstream.call(), asked)
        assert first.calls + second.calls == 1


async def test_text_without_the_ids_of_its_tokens_cannot_be_resumed() -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        running = asyncio.ensure_future(streamed(upstream, "pieces=50 gap=0.1", **GREEDY))
        while first.sent + second.sent < 2:
            await asyncio.sleep(0.01)
        await (first if first.running else second).stop(0)
        with pytest.raises(StreamBrokenError):
            await running
    assert first.calls + second.calls == 1


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "INTERNAL"])
async def test_a_replica_that_does_not_take_a_stream_over_leaves_it_broken(code: str) -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        with pytest.raises(StreamBrokenError):
            await streamed(upstream, f"tokens=20 break=7 quit={code}", **GREEDY)


async def test_a_tenant_whose_default_is_greedy_is_resumed() -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        call = upstream.call()
        sampling = payload_pb2.Sampling(temperature=0)
        call.defaults = payload_pb2.Generate(sampling=sampling).SerializeToString()
        await upstream.stream(call, generate("tokens=20 break=7"))
        assert client_of(call).text == TWENTY


async def test_a_replica_that_falls_silent_in_the_middle_is_left_and_the_stream_goes_on() -> None:
    async with two_workers() as (first, second):
        entry = model_entry(first, second, timeouts={"between_tokens_s": 0.3})
        async with running_upstream(entry) as upstream:
            started = time.monotonic()
            call = await streamed(upstream, "tokens=20 hang=7", **GREEDY)
            assert time.monotonic() - started < 2
            assert client_of(call).text == TWENTY
            labels = {"model": "chat", "awaited": "next token"}
            assert upstream.metric("mesh_gateway_silent_attempts_total", **labels) == 1


async def test_a_deadline_that_passes_while_a_stream_is_resumed_is_one() -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        call = upstream.call(timeout_s=0.5)
        with pytest.raises(DeadlineExceededError):
            await upstream.stream(call, generate("tokens=20 gap=0.1 break=2", **GREEDY))
        assert call.resumed == 1


async def test_every_stream_of_a_worker_that_is_killed_goes_on_or_ends_within_250_ms(
    processes: ProcessGroup,
) -> None:
    first, second = start_worker(processes, "a"), start_worker(processes, "b")
    async with running_upstream(model_entry(first.grpc_target, second.grpc_target)) as upstream:
        await upstream.ready(2)
        commands = [f"tokens=40 gap=0.05 number={number}" for number in range(20)]
        greedy = [asyncio.ensure_future(streamed(upstream, one, **GREEDY)) for one in commands]
        chance = [upstream.call() for _ in commands]
        others = [
            asyncio.ensure_future(upstream.stream(call, generate(one)))
            for call, one in zip(chance, commands, strict=True)
        ]
        await asyncio.gather(*(client_of(call).got(5) for call in chance))
        first.signal(signal.SIGKILL)
        killed_s = time.monotonic()
        done, _ = await asyncio.wait(others, timeout=0.25)
        on_first = [call for call in chance if call.endpoint == first.grpc_target]
        assert len(done) == len(on_first) > 0
        assert time.monotonic() - killed_s < 0.3
        assert all(isinstance(task.exception(), StreamBrokenError) for task in done)
        whole = "".join(f"{number} " for number in range(40))
        assert {client_of(call).text for call in await asyncio.gather(*greedy)} == {whole}
        await asyncio.gather(*others, return_exceptions=True)
        assert {client_of(call).text for call in chance if call not in on_first} == {whole}
        assert broken(upstream, "ended") == len(on_first)
