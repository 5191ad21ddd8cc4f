"""What a request costs the worker that it has no room for."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import grpc

from inference_mesh.error_status import error_from_rpc
from tests.bench.engines.onnx_servers import ANSWER_LIMIT_S, Worker, connected, request, worker_process
from tests.support.processes import cpu_seconds

REFUSALS = 1000
CONCURRENCY = 16
FILLING_TEXTS = 2048
TICKS_PER_S = 100


@dataclasses.dataclass(frozen=True)
class Refusals:
    """cpu_ms: of one. hinted: share of them that say when to come back."""

    cpu_ms: float
    hinted: float


async def measure_refusals(texts: Sequence[str]) -> Refusals:
    """Fill a worker's queue with one request of many texts, and ask for more meanwhile."""
    filling = list(itertools.islice(itertools.cycle(sorted(texts, key=len)[-64:]), FILLING_TEXTS))
    with worker_process("--sessions", "1", "--max-queue", "1") as process:
        async with connected(process.grpc_target) as channel:
            worker = Worker(process.pid, channel)
            await worker.embed("warm-up")
            filler = asyncio.ensure_future(worker.stub.Infer(request(filling), timeout=ANSWER_LIMIT_S))
            try:
                return await _refused(worker)
            finally:
                filler.cancel()


async def _refused(worker: Worker) -> Refusals:
    """Ask until enough were refused; the thread that computes does not count."""
    while not isinstance(await _one(worker), grpc.aio.AioRpcError):
        await asyncio.sleep(0.05)
    computing = await _busiest_thread(worker.pid)
    before = cpu_seconds(worker.pid) - _thread_cpu_s(worker.pid, computing)
    answers = []
    for _ in range(REFUSALS // CONCURRENCY):
        answers += await asyncio.gather(*(_one(worker) for _ in range(CONCURRENCY)))
    cpu_s = cpu_seconds(worker.pid) - _thread_cpu_s(worker.pid, computing) - before
    refused = [one for one in answers if one is not None]
    if len(refused) != len(answers):
        raise AssertionError(f"{len(answers) - len(refused)} requests were taken; the queue was not full")
    hinted = [error_from_rpc(one).retry_after_s is not None for one in refused]
    return Refusals(cpu_s / len(refused) * 1000, sum(hinted) / len(hinted))


async def _one(worker: Worker) -> grpc.aio.AioRpcError | None:
    """The refusal of one more request; None if it was taken."""
    try:
        await worker.embed("one more")
    except grpc.aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return error
    return None


async def _busiest_thread(pid: int) -> int:
    """The thread that computes, while nothing else is asked of the process."""
    before = {thread: _thread_cpu_s(pid, thread) for thread in _threads(pid)}
    await asyncio.sleep(0.5)
    return max(_threads(pid), key=lambda thread: _thread_cpu_s(pid, thread) - before.get(thread, 0.0))


def _threads(pid: int) -> list[int]:
    return [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]


def _thread_cpu_s(pid: int, thread: int) -> float:
    fields = Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
