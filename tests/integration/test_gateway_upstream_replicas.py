"""Replicas that hang, fail, flap or come back, and which ones get the calls meanwhile."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.call import WorkerStatusError
from inference_mesh.errors import DeadlineExceededError, MeshError, UnavailableError
from inference_mesh.load_report import LoadReport
from inference_mesh.v1 import inference_pb2, payload_pb2
from tests.support.processes import MeshProcess, ProcessGroup, process_group
from tests.support.upstreams import (
    Client,
    Upstream,
    client_of,
    generate,
    model_entry,
    prompt,
    running_upstream,
    running_worker,
    two_workers,
    worker_of,
)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[ProcessGroup]:
    with process_group(tmp_path) as group:
        yield group


def start_worker(processes: ProcessGroup, label: str) -> MeshProcess:
    worker = processes.start("tests.fakes.fake_worker", "--name", "chat", "--label", label, name=label)
    worker.wait_for_ports()
    return worker


def ejections(upstream: Upstream, endpoint: str) -> float:
    return upstream.metric("mesh_gateway_ejections_total", model="chat", endpoint=endpoint)


async def asked(upstream: Upstream, commands: str = "") -> str:
    """Which worker answers a request."""
    answer = await upstream.unary(upstream.call("Infer"), prompt(commands))
    return worker_of(answer)


async def test_calls_on_a_replica_that_falls_silent_move_within_five_seconds(
    processes: ProcessGroup,
) -> None:
    first, second = start_worker(processes, "a"), start_worker(processes, "b")
    async with running_upstream(model_entry(first.grpc_target, second.grpc_target)) as upstream:
        await upstream.ready(2)
        unary = [asyncio.ensure_future(asked(upstream, f"delay=1.5 number={number}")) for number in range(8)]
        calls = [upstream.call(timeout_s=30) for _ in range(8)]
        streams = [
            asyncio.ensure_future(upstream.stream(call, generate(f"tokens=60 gap=0.1 n={n}", temperature=0)))
            for n, call in enumerate(calls)
        ]
        await asyncio.gather(*(client_of(call).got(3) for call in calls))
        first.signal(signal.SIGSTOP)
        stopped_s = time.monotonic()
        moved = [call for call in calls if call.endpoint == first.grpc_target]
        assert moved
        async with asyncio.timeout(10):
            while not all(call.resumed for call in moved):
                await asyncio.sleep(0.01)
        assert time.monotonic() - stopped_s <= 5
        assert set(await asyncio.gather(*unary)) <= {"a", "b"}
        await asyncio.gather(*streams)
        assert {client_of(call).text for call in calls} == {"".join(f"{n} " for n in range(60))}
        first.signal(signal.SIGCONT)
        await upstream.ready(2)


async def test_a_replica_that_never_sends_a_first_token_is_left_and_ejected() -> None:
    async with two_workers() as (first, second):
        entry = model_entry(first, second, timeouts={"first_token_s": 0.3})
        async with running_upstream(entry) as upstream:
            calls = [upstream.call() for _ in range(8)]
            commands = [f"tokens=3 hang=0 only=a number={number}" for number in range(8)]
            streams = [
                upstream.stream(call, generate(one)) for call, one in zip(calls, commands, strict=True)
            ]
            await asyncio.gather(*streams)
            assert {client_of(call).text for call in calls} == {"0 1 2 "}
            assert ejections(upstream, first.target) == 1
            assert ejections(upstream, second.target) == 0
            assert {await asked(upstream) for _ in range(8)} == {"b"}


async def test_the_only_replica_is_not_asked_again_after_it_was_silent() -> None:
    async with running_worker("chat") as worker:
        async with running_upstream(model_entry(worker, timeouts={"first_token_s": 0.2})) as upstream:
            with pytest.raises(UnavailableError):
                await upstream.stream(upstream.call(), generate("tokens=3 hang=0"))
            assert worker.calls == 1
            assert await asked(upstream) == "chat"


async def test_a_call_with_one_answer_may_take_its_time() -> None:
    async with running_worker("chat") as worker:
        entry = model_entry(worker, timeouts={"first_token_s": 0.1, "between_tokens_s": 0.1})
        async with running_upstream(entry) as upstream:
            assert await asked(upstream, "delay=0.5") == "chat"


class SlowReader(Client):
    """Takes its time with each message."""

    async def write(self, message: bytes) -> None:
        """Keep one message, slowly."""
        await asyncio.sleep(0.3)
        await super().write(message)


async def test_a_client_who_reads_slowly_is_not_the_silence_of_a_replica() -> None:
    async with running_worker("chat") as worker:
        entry = model_entry(worker, timeouts={"first_token_s": 0.2, "between_tokens_s": 0.2})
        async with running_upstream(entry) as upstream:
            call = upstream.call()
            call.context = SlowReader()  # type: ignore[assignment]
            await upstream.stream(call, generate("tokens=3"))
            assert client_of(call).text == "0 1 2 "


async def test_a_killed_replica_counts_as_left_out_once_however_many_calls_it_had(
    processes: ProcessGroup,
) -> None:
    first, second = start_worker(processes, "a"), start_worker(processes, "b")
    async with running_upstream(model_entry(first.grpc_target, second.grpc_target)) as upstream:
        await upstream.ready(2)
        running = [asyncio.ensure_future(asked(upstream, f"delay=0.5 n={number}")) for number in range(20)]
        await asyncio.sleep(0.2)
        first.signal(signal.SIGKILL)
        assert set(await asyncio.gather(*running)) == {"b"}
        assert ejections(upstream, first.grpc_target) == 1


async def test_a_replica_that_fails_three_times_in_a_row_is_ejected_and_comes_back() -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        await upstream.ready(2)
        (bad,) = [one for one in upstream.target().pool.endpoints if one.address == first.target]
        codes = []
        for number in range(40):
            try:
                await asked(upstream, f"status=INTERNAL only=a n={number}")
            except WorkerStatusError as error:
                codes.append(error.code)
        assert codes == [grpc.StatusCode.INTERNAL] * 3
        assert ejections(upstream, first.target) == 1
        loop = asyncio.get_running_loop()
        assert 1 < bad.conduct.ejected_until_s - loop.time() <= 2


async def test_retries_of_a_failing_backend_stay_within_a_fifth_of_the_calls() -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        for _ in range(100):
            with pytest.raises(MeshError):
                await asked(upstream, "status=UNAVAILABLE")
        own = upstream.metric("mesh_gateway_retries_total", model="chat")
    assert first.calls + second.calls == 100 + own
    assert 3 <= own <= 0.2 * 100 + 3


async def test_all_turns_of_a_conversation_go_to_the_replica_that_knows_its_beginning() -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        await upstream.ready(2)
        places: Counter[str] = Counter()
        for conversation in range(20):
            messages = [payload_pb2.ChatMessage(role="user", content=f"question {conversation}")]
            before = first.calls, second.calls
            for _ in range(3):
                messages.append(payload_pb2.ChatMessage(role="assistant", content="…"))
                chat = payload_pb2.Generate(chat=payload_pb2.Chat(messages=messages))
                request = inference_pb2.InferRequest(payload=payload_pb2.Payload(generate=chat))
                await upstream.unary(upstream.call("Infer"), request)
            assert sorted((first.calls - before[0], second.calls - before[1])) == [0, 3]
            places["a" if first.calls > before[0] else "b"] += 1
        assert len(places) == 2
        labels = {"model": "chat", "result": "first"}
        assert upstream.metric("mesh_gateway_prefix_picks_total", **labels) == 60


async def test_what_a_replica_says_of_its_slots_is_the_capacity() -> None:
    async with running_worker("chat", slots=4) as first, running_worker("chat") as second:
        async with running_upstream(model_entry(first, second)) as upstream:
            await upstream.ready(2)
            pool = upstream.target().pool
            async with asyncio.timeout(5):
                while pool.capacity != 4 + 16:
                    await asyncio.sleep(0.01)
            changes = upstream.changes
            second.load = LoadReport(0.5, 0, 1, slots=8)
            while second.calls < 1:
                await asked(upstream)
            assert pool.capacity == 4 + 8
            assert upstream.changes > changes
            assert upstream.metric("mesh_gateway_capacity", model="chat", version="") == 12
            await second.drain()
            await upstream.ready(1)
            assert pool.capacity == 4
            await upstream.apply(model_entry(first, second, queue={"in_flight_per_replica": 3}))
            assert upstream.target().pool is pool
            assert pool.capacity == 3


async def test_what_the_worker_says_of_a_call_is_noted() -> None:
    async with running_worker("chat") as worker, running_upstream(model_entry(worker)) as upstream:
        call = upstream.call("Infer")
        await upstream.unary(call, prompt())
        assert (call.prompt_tokens, call.usage) == (3, payload_pb2.Usage(prompt_tokens=3))
        stream = upstream.call()
        await upstream.stream(stream, generate("tokens=3"))
        assert stream.first_token_at_s is not None
        assert stream.delivered_tokens == 3


async def test_a_deadline_is_no_fault_of_the_replica() -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        for _ in range(6):
            with pytest.raises(DeadlineExceededError):
                await upstream.unary(upstream.call("Infer", timeout_s=0.05), prompt("delay=1"))
        assert ejections(upstream, first.target) + ejections(upstream, second.target) == 0


async def test_a_call_that_is_cancelled_frees_the_worker() -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        running = asyncio.ensure_future(asked(upstream, "delay=30"))
        while first.running + second.running == 0:
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        async with asyncio.timeout(0.5):
            while first.running + second.running:
                await asyncio.sleep(0.01)
        assert all(one.outstanding == 0 for one in upstream.target().pool.endpoints)


def version(name: str, *workers: Any, weight: float = 1.0) -> dict[str, Any]:
    return {"version": name, "endpoints": [one.target for one in workers], "weight": weight}


async def test_each_version_has_its_own_replicas() -> None:
    async with two_workers() as (first, second):
        entry = model_entry(versions=[version("1", first), version("2", second)])
        async with running_upstream(entry) as upstream:
            await upstream.ready(1, version="2")
            assert upstream.fleet.has_ready("chat", "1")
            assert not upstream.fleet.has_ready("chat", "3")
            assert upstream.fleet.target("chat", "") is None
            assert [model.version for model in upstream.fleet.targets] == ["1", "2"]
            assert [model.version for model in upstream.fleet.models] == ["1"]
            assert upstream.fleet.model("chat") is upstream.fleet.target("chat", "1")
            answer = await upstream.unary(upstream.call("Infer", version="2"), prompt(), "2")
            assert worker_of(answer) == "b"


async def test_replicas_stay_connected_when_their_version_gets_a_name_or_a_neighbour() -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first)) as upstream:
        pool = upstream.target().pool
        await upstream.apply(model_entry(first, version="1"))
        assert upstream.target(version="1").pool is pool
        await upstream.apply(model_entry(versions=[version("2", second), version("1b", first)]))
        assert upstream.target(version="1b").pool is pool
        await upstream.apply(model_entry(versions=[version("1b", second), version("2", first)]))
        assert upstream.target(version="1b").pool is pool
        async with asyncio.timeout(5):
            while [one.address for one in pool.ready] != [second.target]:
                await asyncio.sleep(0.01)


async def test_two_versions_on_one_address_share_its_series_until_both_are_gone() -> None:
    async with two_workers() as (first, second):
        both = [version("1", first), version("2", first)]
        async with running_upstream(model_entry(versions=both)) as upstream:
            await upstream.ready(1, version="2")
            labels = {"model": "chat", "endpoint": first.target}
            await upstream.apply(model_entry(versions=[version("1", first), version("2", second)]))
            async with asyncio.timeout(5):
                while len(upstream.target(version="2").pool.endpoints) != 1:
                    await asyncio.sleep(0.01)
            assert upstream.registry.get_sample_value("mesh_gateway_endpoint_ready", labels) == 1
            await upstream.apply(model_entry(second, version="2"))
            assert upstream.registry.get_sample_value("mesh_gateway_endpoint_ready", labels) is None
            gone = {"model": "chat", "version": "1"}
            assert upstream.registry.get_sample_value("mesh_gateway_capacity", gone) is None
