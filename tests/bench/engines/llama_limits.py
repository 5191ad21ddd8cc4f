"""What callers cost whom nobody serves: those who have left, and those whom a full queue refuses."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import Random

from inference_mesh.client import MeshClient
from inference_mesh.errors import OverloadedError
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2
from tests.bench.engines.llama_files import random_model
from tests.bench.engines.llama_servers import MODEL, Question, Servers, Setup, Worker, letters, servers
from tests.bench.report import Figure
from tests.support.llama_engine import Counts, until
from tests.support.workers import served_worker
from workers.llama.engine import LlamaEngine
from workers.llama.settings import LlamaSettings

COMMAND = "python -m tests.bench.engines.llama"
LEAVERS = 20
READ_PIECES = 3
MOST_STEPS_AFTER = 1

REFUSALS = 1000
MOST_REFUSAL_MS = 1.0
BASELINE_S = 1.0


def measure() -> list[Figure]:
    """Steps for callers who left, and the CPU of a refusal."""
    steps = asyncio.run(_steps_after_leaving())
    with servers() as started:
        setup = Setup(random_model(), threads=1, slots=1, context=4096)
        cpu_ms, least_hint_s = asyncio.run(_refusal(started.worker(setup, "--max-queue", "1"), started))
    return [
        Figure(
            f"most steps computed for one of {LEAVERS} callers after it left",
            steps,
            COMMAND,
            f"<= {MOST_STEPS_AFTER}",
            steps <= MOST_STEPS_AFTER,
        ),
        Figure(
            "CPU of a refusal by a full queue, ms",
            round(cpu_ms, 3),
            COMMAND,
            f"< {MOST_REFUSAL_MS:g}",
            cpu_ms < MOST_REFUSAL_MS,
        ),
        Figure("least hint when to come again, s", round(least_hint_s, 2), COMMAND, "> 0", least_hint_s > 0),
    ]


async def _steps_after_leaving() -> int:
    """Steps begun or ended after a caller cancelled by gRPC, the most of all trials."""
    counts, random, worst = Counts(), Random(4), 0
    engine = LlamaEngine(LlamaSettings(random_model(), MODEL, slots=2, context_tokens=1024), counts)
    async with served_worker(engine) as worker:
        await until(lambda: engine.model.ready)
        stub: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(
            worker.channel
        )
        for _ in range(LEAVERS):
            generate = payload_pb2.Generate(prompt=letters(random, 16), max_tokens=500)
            request = inference_pb2.InferStreamRequest(
                model=MODEL, payload=payload_pb2.Payload(generate=generate)
            )
            call = stub.InferStream(request)
            for _ in range(READ_PIECES):
                await call.read()
            before = len(counts.batches)
            call.cancel()
            await until(lambda: not engine.load_now().running)
            worst = max(worst, len(counts.batches) - before)
    return worst


async def _refusal(worker: Worker, started: Servers) -> tuple[float, float]:
    """CPU of one refusal in ms, and the least retry hint in seconds, while the one slot works."""
    random = Random(5)
    async with asyncio.TaskGroup() as group:
        busy = [
            group.create_task(worker.answer(Question(letters(random, 16), tokens))) for tokens in (2000, 1)
        ]
        await asyncio.sleep(0.5)
        before = _thread_cpu_s(worker.pid)
        await asyncio.sleep(BASELINE_S)
        computing = _busiest(before, _thread_cpu_s(worker.pid))
        before = _thread_cpu_s(worker.pid)
        hints = await _hints(worker.target)
        after = _thread_cpu_s(worker.pid)
        is_full = not any(task.done() for task in busy)
        for task in busy:
            task.cancel()
    await started.close()
    if not is_full:
        raise AssertionError("the queue was not full all the time")
    spent = sum(seconds - before.get(name, 0.0) for name, seconds in after.items() if name != computing)
    return spent / REFUSALS * 1e3, min(hints)


async def _hints(target: str) -> list[float]:
    found = []
    async with MeshClient(target) as client:
        for _ in range(REFUSALS):
            try:
                await client.infer(MODEL, {"prompt": "no room"})
            except OverloadedError as error:
                found.append(error.retry_after_s or 0.0)
    if len(found) != REFUSALS:
        raise AssertionError(f"{len(found)} of {REFUSALS} were refused")
    return found


def _thread_cpu_s(pid: int) -> dict[str, float]:
    """CPU seconds by thread."""
    found = {}
    for folder in Path(f"/proc/{pid}/task").iterdir():
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        found[folder.name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def _busiest(before: dict[str, float], after: dict[str, float]) -> str:
    """The thread that computes, which a refusal has no part in."""
    return max(after, key=lambda name: after[name] - before.get(name, 0.0))
