"""Mixed load for a stated time: no call fails, and memory, files and threads stay flat.

Calls of all three embedded models by gRPC and REST, every twentieth of them cancelled in the
middle. Memory is judged over the second half of the run: the first half fills caches.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import psutil

from inference_mesh.client import MeshClient
from inference_mesh.errors import MeshError
from tests.bench.hops import LOADS, Mesh, start_mesh
from tests.bench.report import Figure, print_table, write_report
from tests.support.processes import process_group

COMMAND = "make soak"
CALLERS = 6
CANCEL_EVERY = 20
SAMPLE_INTERVAL_S = 1.0
MAX_GROWTH_MIB_PER_10_MIN = 1.0
MAX_LEFT_OVER = 2


@dataclasses.dataclass
class Usage:
    """What one process held at each sample, and before and after the load."""

    rss_mib: list[float] = dataclasses.field(default_factory=list)
    files_before: int = 0
    files_after: int = 0
    threads_before: int = 0
    threads_after: int = 0

    def growth_mib(self) -> float:
        """Growth of memory over the second half, between the medians of its first and last third."""
        half = self.rss_mib[len(self.rss_mib) // 2 :]
        third = max(1, len(half) // 3)
        return statistics.median(half[-third:]) - statistics.median(half[:third])


@dataclasses.dataclass
class Outcome:
    """What a soak saw."""

    seconds: float
    calls: int
    cancelled: int
    failures: list[str]
    usage: dict[str, Usage]


def main() -> int:
    """Run, print, write the report; 1 if something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0, help="how long the load lasts")
    minutes: float = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder, process_group(Path(folder)) as group:
        outcome = asyncio.run(soak(start_mesh(group, Path(folder)), minutes * 60))
    figures = figures_of(outcome, COMMAND)
    print_table(
        ["figure", "value", "target", "holds"],
        [[one.figure, f"{one.value:g}", one.target or "-", "yes" if one.holds else "NO"] for one in figures],
    )
    print(f"report: {write_report('soak', figures)}")
    return 0 if all(figure.holds for figure in figures) else 1


async def soak(mesh: Mesh, seconds: float) -> Outcome:
    """Load the mesh for so long, and watch its processes."""
    processes = {name: psutil.Process(pid) for name, pid in mesh.pids().items()}
    outcome = Outcome(seconds, 0, 0, [], {name: Usage() for name in processes})
    async with (
        MeshClient(mesh.gateway.grpc_target) as client,
        httpx.AsyncClient(base_url=mesh.bridge.url, timeout=60) as http,
    ):
        await _load(client, http, outcome, time.monotonic() + min(5.0, seconds / 4))
        for name, process in processes.items():
            usage = outcome.usage[name]
            usage.files_before, usage.threads_before = process.num_fds(), process.num_threads()
        watching = asyncio.ensure_future(watched(processes, outcome))
        await _load(client, http, outcome, time.monotonic() + seconds)
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        for name, process in processes.items():
            usage = outcome.usage[name]
            usage.files_after, usage.threads_after = process.num_fds(), process.num_threads()
    return outcome


async def watched(processes: dict[str, psutil.Process], outcome: Outcome) -> None:
    """Note what the processes hold, until it is cancelled."""
    while True:
        for name, process in processes.items():
            outcome.usage[name].rss_mib.append(process.memory_info().rss / 2**20)
        print(f"\r{outcome.calls} calls, {len(outcome.failures)} failed", end="", file=sys.stderr, flush=True)
        await asyncio.sleep(SAMPLE_INTERVAL_S)


async def _load(client: MeshClient, http: httpx.AsyncClient, outcome: Outcome, until_s: float) -> None:
    numbers = itertools.count()

    async def caller() -> None:
        while time.monotonic() < until_s:
            number = next(numbers)
            load = LOADS[number % len(LOADS)]
            call = (
                _by_rest(http, load.model, load.payload)
                if number % 2
                else _by_grpc(client, load.model, load.payload)
            )
            await _one(call, outcome, is_cancelled=number % CANCEL_EVERY == 0)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def _one(call: Callable[[], Awaitable[object]], outcome: Outcome, *, is_cancelled: bool) -> None:
    outcome.calls += 1
    try:
        async with asyncio.timeout(0.002 if is_cancelled else None):
            await call()
    except TimeoutError:
        outcome.cancelled += 1
    except (MeshError, httpx.HTTPError) as error:
        outcome.failures.append(f"{type(error).__name__}: {error}")


def _by_grpc(client: MeshClient, model: str, payload: dict[str, object]) -> Callable[[], Awaitable[object]]:
    return lambda: client.infer(model, payload)


def _by_rest(
    http: httpx.AsyncClient, model: str, payload: dict[str, object]
) -> Callable[[], Awaitable[object]]:
    async def call() -> None:
        answer = await http.post("/api/infer", json={"model": model, "payload": payload})
        answer.raise_for_status()

    return call


def figures_of(outcome: Outcome, command: str) -> list[Figure]:
    """What came of a soak, each row with its target."""
    allowed_mib = max(2.0, MAX_GROWTH_MIB_PER_10_MIN * outcome.seconds / 600)
    figures = [
        Figure("calls", outcome.calls, command),
        Figure("calls cancelled on purpose", outcome.cancelled, command),
        Figure("calls failed", len(outcome.failures), command, "0", not outcome.failures),
    ]
    for name, usage in outcome.usage.items():
        growth, files = usage.growth_mib(), usage.files_after - usage.files_before
        target = f"<= {allowed_mib:g}"
        figures.append(
            Figure(
                f"{name}: MiB grown in the second half",
                round(growth, 2),
                command,
                target,
                growth <= allowed_mib,
            )
        )
        left_over = f"<= {MAX_LEFT_OVER}"
        figures.append(Figure(f"{name}: open files more", files, command, left_over, files <= MAX_LEFT_OVER))
    return figures


if __name__ == "__main__":
    sys.exit(main())
