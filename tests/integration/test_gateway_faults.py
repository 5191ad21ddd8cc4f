"""What callers see when workers die, hang, come back or are not there at all."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from inference_mesh.error_status import error_from_rpc
from inference_mesh.errors import UnavailableError
from tests.support.gateways import (
    RunningGateway,
    entry,
    facts,
    prompt,
    running_gateway,
    running_worker,
    status_of,
    stream_prompt,
)
from tests.support.processes import MeshProcess, ProcessGroup, process_group


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[ProcessGroup]:
    with process_group(tmp_path) as group:
        yield group


def start_worker(processes: ProcessGroup, label: str, port: int = 0) -> MeshProcess:
    arguments = ("--name", "chat", "--label", label, "--port", str(port))
    worker = processes.start("tests.fakes.fake_worker", *arguments, name=label)
    worker.wait_for_ports()
    return worker


async def until(condition: Callable[[], object], limit_s: float) -> float:
    """Wait for a condition; the seconds that it took."""
    started = time.monotonic()
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.01)
    return time.monotonic() - started


def ready(mesh: RunningGateway) -> int:
    """How many replicas of the model are ready."""
    return int(mesh.gateway.readiness().detail["model chat"].partition(" ")[0])


def in_flight(mesh: RunningGateway) -> float:
    return mesh.metric("mesh_gateway_in_flight", model="chat")


async def test_no_call_fails_when_one_of_two_workers_is_killed(
    tmp_path: Path, processes: ProcessGroup
) -> None:
    first, second = start_worker(processes, "first"), start_worker(processes, "second")
    models = [entry("chat", first.grpc_target, second.grpc_target)]
    async with running_gateway(tmp_path, models) as mesh:
        calls = [mesh.stub.Infer(prompt("chat", "delay=1"), timeout=20) for _ in range(50)]
        running = asyncio.gather(*calls)
        await until(lambda: in_flight(mesh) == 50, 5)
        first.signal(signal.SIGKILL)
        answers = [facts(answer)["worker"] for answer in await running]
        retries = mesh.metric("mesh_gateway_retries_total", model="chat")
    assert answers.count("second") == 50
    assert 0 < retries <= 50


async def test_with_all_workers_down_a_call_is_refused_at_once_and_works_again_soon(
    tmp_path: Path, processes: ProcessGroup
) -> None:
    worker = start_worker(processes, "first")
    async with running_gateway(tmp_path, [entry("chat", worker.grpc_target)]) as mesh:
        await mesh.stub.Infer(prompt("chat"))
        worker.signal(signal.SIGKILL)
        worker.popen.wait()
        await until(lambda: ready(mesh) == 0, 2)
        started = time.monotonic()
        status = await status_of(mesh.stub.Infer(prompt("chat"), timeout=10))
        assert time.monotonic() - started < 0.05
        error = error_from_rpc(status)
        assert isinstance(error, UnavailableError)
        assert error.retry_after_s
        start_worker(processes, "again", worker.grpc)
        assert await until(lambda: ready(mesh) == 1, 5) < 2
        await mesh.stub.Infer(prompt("chat"))


async def test_a_stopped_worker_is_noticed_within_five_seconds_and_comes_back(
    tmp_path: Path, processes: ProcessGroup
) -> None:
    first, second = start_worker(processes, "first"), start_worker(processes, "second")
    models = [entry("chat", first.grpc_target, second.grpc_target)]
    async with running_gateway(tmp_path, models) as mesh:
        await until(lambda: ready(mesh) == 2, 5)
        first.signal(signal.SIGSTOP)
        calls = [mesh.stub.Infer(prompt("chat"), timeout=10) for _ in range(8)]
        assert await until(lambda: ready(mesh) == 1, 10) <= 5
        answers = await asyncio.gather(*calls)
        assert {facts(answer)["worker"] for answer in answers} == {"second"}
        first.signal(signal.SIGCONT)
        assert await until(lambda: ready(mesh) == 2, 10) <= 5


async def test_a_worker_that_drains_gets_no_more_calls(tmp_path: Path) -> None:
    async with running_worker("chat", label="a") as first, running_worker("chat", label="b") as second:
        async with running_gateway(tmp_path, [entry("chat", first, second)]) as mesh:
            await until(lambda: ready(mesh) == 2, 5)
            await first.drain()
            await until(lambda: ready(mesh) == 1, 2)
            answers = [facts(await mesh.stub.Infer(prompt("chat")))["worker"] for _ in range(10)]
    assert set(answers) == {"b"}


async def test_a_worker_that_refuses_is_retried_elsewhere_but_not_for_ever(tmp_path: Path) -> None:
    async with running_worker("chat", label="a") as first, running_worker("chat", label="b") as second:
        async with running_gateway(tmp_path, [entry("chat", first, second)]) as mesh:
            await until(lambda: ready(mesh) == 2, 5)
            status = await status_of(mesh.stub.Infer(prompt("chat", "status=UNAVAILABLE")))
            assert status.code() is grpc.StatusCode.UNAVAILABLE
    assert first.calls >= 1
    assert second.calls >= 1
    assert first.calls + second.calls == 3


async def test_a_stream_that_has_not_begun_moves_to_another_worker(
    tmp_path: Path, processes: ProcessGroup
) -> None:
    first, second = start_worker(processes, "first"), start_worker(processes, "second")
    models = [entry("chat", first.grpc_target, second.grpc_target)]
    async with running_gateway(tmp_path, models) as mesh:
        calls = [mesh.stub.InferStream(stream_prompt("chat", "delay=1"), timeout=20) for _ in range(10)]
        reading = asyncio.gather(*(call.read() for call in calls))
        await until(lambda: in_flight(mesh) == 10, 5)
        first.signal(signal.SIGKILL)
        workers = {facts(answer)["worker"] for answer in await reading}
    assert workers == {"second"}


async def test_slow_workers_get_fewer_calls(tmp_path: Path) -> None:
    async with running_worker("chat", label="a") as first, running_worker("chat", label="b") as second:
        async with running_gateway(tmp_path, [entry("chat", first, second)]) as mesh:
            await until(lambda: ready(mesh) == 2, 5)
            busy = [mesh.stub.InferStream(stream_prompt("chat", "pieces=1 gap=5")) for _ in range(6)]
            await asyncio.gather(*(call.read() for call in busy))
            assert abs(first.running - second.running) <= 2
            for call in busy:
                call.cancel()
