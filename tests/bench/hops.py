"""What each hop costs: client → worker, client → gateway → worker, client → bridge → gateway → worker.

Every round visits every (model, path) once, so that the paths are compared under the same
noise; medians over the rounds are printed. CPU time per request of each process is the
steady measure on a shared machine, requests/s and latencies are not.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from inference_mesh.client import MeshClient
from tests.bench.report import Figure, print_table, write_report
from tests.support.processes import (
    IRIS,
    MINILM,
    TINY_CHAT,
    MeshProcess,
    ProcessGroup,
    cpu_seconds,
    process_group,
    write_models_file,
)

COMMAND = "make bench"
CONCURRENCY = 16
PATHS = ("worker", "gateway → worker", "bridge → gateway → worker")

Call = Callable[[], Awaitable[object]]


@dataclasses.dataclass(frozen=True)
class Load:
    """What is asked of one model, and how often in a round."""

    model: str
    payload: dict[str, Any]
    requests: int


LOADS = (
    Load(
        "iris",
        {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]},
        requests=800,
    ),
    Load("minilm", {"text": "The gateway picks the worker with the least outstanding work."}, requests=160),
    Load(
        "tiny-chat",
        {"messages": [{"role": "user", "content": "Who are you?"}], "temperature": 0},
        requests=120,
    ),
)


@dataclasses.dataclass(frozen=True)
class Sample:
    """One round of one path."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Mesh:
    """The processes under measurement."""

    workers: dict[str, MeshProcess]
    gateway: MeshProcess
    bridge: MeshProcess

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        services = {"gateway": self.gateway.pid, "bridge": self.bridge.pid}
        return {**services, **{f"worker {name}": worker.pid for name, worker in self.workers.items()}}

    def processes_of(self, model: str, path: str) -> dict[str, MeshProcess]:
        """The processes that a call passes, by role."""
        passed = {"worker": self.workers[model]}
        if "gateway" in path:
            passed["gateway"] = self.gateway
        if "bridge" in path:
            passed["bridge"] = self.bridge
        return passed


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; the median is reported")
    rounds: int = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, process_group(Path(folder)) as group:
        samples = asyncio.run(_measure(start_mesh(group, Path(folder)), rounds))
    figures = [figure for key, found in samples.items() for figure in _figures(*key, found)]
    _print(samples)
    print(f"\n{len(figures)} figures in {write_report('hops', figures)}; reproduce with: {COMMAND}")


def start_mesh(group: ProcessGroup, folder: Path) -> Mesh:
    """The mesh on the embedded models, ready."""
    workers = {
        "iris": group.worker(IRIS, name="iris", runtime="onnx"),
        "minilm": group.worker(MINILM, name="minilm", runtime="onnx"),
        "tiny-chat": group.worker(TINY_CHAT, "--slots", "16", name="tiny-chat", runtime="llama"),
    }
    for worker in workers.values():
        worker.wait_until_ready()
    models = write_models_file(folder / "models.yaml", {name: [worker] for name, worker in workers.items()})
    gateway = group.gateway(models)
    gateway.wait_until_ready()
    bridge = group.bridge(gateway)
    bridge.wait_until_ready()
    return Mesh(workers, gateway, bridge)


async def _measure(mesh: Mesh, rounds: int) -> dict[tuple[str, str], list[Sample]]:
    samples: dict[tuple[str, str], list[Sample]] = {}
    for number in range(-1, rounds):
        for load in LOADS:
            for path in PATHS:
                print(
                    f"\rround {max(number, 0) + 1}/{rounds}  {load.model}  {path}".ljust(70),
                    end="",
                    flush=True,
                )
                sample = await _sample(mesh, load, path)
                if number >= 0:
                    samples.setdefault((load.model, path), []).append(sample)
    print("\r".ljust(70))
    return samples


async def _sample(mesh: Mesh, load: Load, path: str) -> Sample:
    """One round; round -1 warms up and is not counted."""
    processes = mesh.processes_of(load.model, path)
    if "bridge" in path:
        async with httpx.AsyncClient(base_url=mesh.bridge.url, timeout=60) as http:
            return await _run(lambda: _post(http, load), load.requests, processes)
    target = mesh.gateway if "gateway" in path else mesh.workers[load.model]
    async with MeshClient(target.grpc_target) as client:
        await client.infer(load.model, load.payload)
        return await _run(lambda: client.infer(load.model, load.payload), load.requests, processes)


async def _post(http: httpx.AsyncClient, load: Load) -> None:
    answer = await http.post("/api/infer", json={"model": load.model, "payload": load.payload})
    answer.raise_for_status()


async def _run(call: Call, requests: int, processes: dict[str, MeshProcess]) -> Sample:
    latencies: list[float] = []
    left = iter(range(requests))

    async def caller() -> None:
        for _ in left:
            started = time.perf_counter()
            await call()
            latencies.append(time.perf_counter() - started)

    before = {role: cpu_seconds(process.pid) for role, process in processes.items()}
    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CONCURRENCY)))
    elapsed_s = time.perf_counter() - started
    spent = {role: cpu_seconds(process.pid) - before[role] for role, process in processes.items()}
    latencies.sort()
    return Sample(
        requests_per_s=requests / elapsed_s,
        p50_ms=latencies[len(latencies) // 2] * 1e3,
        p99_ms=latencies[int(len(latencies) * 0.99)] * 1e3,
        cpu_us={role: seconds / requests * 1e6 for role, seconds in spent.items()},
    )


def _medians(samples: list[Sample]) -> dict[str, float]:
    values = {
        "requests/s": statistics.median(sample.requests_per_s for sample in samples),
        "p50 ms": statistics.median(sample.p50_ms for sample in samples),
        "p99 ms": statistics.median(sample.p99_ms for sample in samples),
    }
    for role in samples[0].cpu_us:
        values[f"CPU µs/request {role}"] = statistics.median(sample.cpu_us[role] for sample in samples)
    return values


def _figures(model: str, path: str, samples: list[Sample]) -> list[Figure]:
    return [
        Figure(f"{model}: client → {path}: {name}", round(value, 3), COMMAND)
        for name, value in _medians(samples).items()
    ]


def _print(samples: dict[tuple[str, str], list[Sample]]) -> None:
    columns = (
        "requests/s",
        "p50 ms",
        "p99 ms",
        *(f"CPU µs/request {role}" for role in ("worker", "gateway", "bridge")),
    )
    rows = []
    for (model, path), found in samples.items():
        values = _medians(found)
        cells = [f"{values[column]:.1f}" if column in values else "-" for column in columns]
        rows.append([f"{model}: client → {path}", *cells])
    print_table(["path", *columns], rows)


if __name__ == "__main__":
    main()
