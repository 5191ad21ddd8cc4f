"""What the policy itself costs a call: CPU, round trips to Redis, memory. No transport, no worker.

The steps of one call run in their order, as between two other calls: each of them alone in a
loop would look half as dear. Medians over batches of process CPU time, of those at the
processor's full speed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gateway import compiled

IS_COMPILED = compiled.use()  # before the imports below, which it changes

from gateway.limits.ledger import Exchange, Ledger  # noqa: E402
from gateway.limits.redis_ledger import RedisLedger  # noqa: E402
from gateway.policy.limits.lease import Report  # noqa: E402
from inference_mesh.telemetry import configure_logging  # noqa: E402
from tests.bench.full_speed import Clock, Sample, at_full_speed  # noqa: E402
from tests.bench.policy_scene import STEPS, Asker, Scene, SceneSize, no_lap  # noqa: E402
from tests.bench.report import Figure, print_table, write_report  # noqa: E402
from tests.support.redis_server import redis_server  # noqa: E402

COMMAND = "make bench"
ALONE = "alone"
"""The argument that has only the cost of a call printed, as JSON."""
BOOKS = ("texts", "usage")
"""The steps that tell what was decided; the others decide it."""
SIZE = SceneSize(keys=16, tenants=4, models=4, replicas=4)
BATCH, BATCHES, WARM_UP = 256, 100, 10
LONGEST_S = 20.0
"""How long batches at full speed are waited for; what there is then has to do."""
PACED_BATCH, PACED_S, PACE_S = 20, 20.0, 0.01
ALONE_PACED_S = 5.0
MEMORY_LIMIT_S = 300.0
ALONE_LIMIT_S = 120.0

MAX_CPU_US = 25.0
MAX_WAITING_SHARE = 0.01
MAX_GROWTH_SHARE = 0.02


@dataclasses.dataclass(frozen=True)
class Cost:
    """CPU of one call in µs: the median over batches at full speed, and of each step.

    all_us: the median over all batches, and full_share: which share of them was at full speed.
    paced_us: of calls that come one by one, so that the processor has forgotten their code.
    """

    median_us: float
    all_us: float
    full_share: float
    paced_us: float
    steps_us: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Shared:
    """What calls cost with limits that are shared by Redis, per 1,000 calls where it says so."""

    median_us: float
    paced_us: float
    calls_per_s: float
    round_trips: float
    for_rates: float
    waiting_calls: float


class CountingLedger:
    """A ledger that counts its round trips, and of those in which calls wait for it, what they lack."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.exchanges = 0
        self.for_rates = 0

    async def exchange(self, reports: Sequence[Report]) -> Exchange:
        """As the ledger's."""
        self.exchanges += 1
        self.for_rates += any(one.need > 0 and one.rule.kind == "requests" for one in reports)
        return await self._ledger.exchange(reports)

    def note_all_told(self) -> None:
        """As the ledger's."""
        self._ledger.note_all_told()

    async def close(self) -> None:
        """As the ledger's."""
        await self._ledger.close()


def main() -> None:
    """Measure, print and write the report."""
    configure_logging("bench", "error")
    if sys.argv[1:] == [ALONE]:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(dataclasses.asdict(asyncio.run(_alone(Path(folder))))))
        return
    with tempfile.TemporaryDirectory() as folder:
        alone = asyncio.run(_alone(Path(folder)))
        with redis_server(Path(folder)) as redis:
            shared = asyncio.run(_shared(Path(folder), redis.url))
    figures = [
        *_cpu_figures(alone, _interpreted()),
        *_shared_figures(shared, alone),
        *_memory_figures(_memory()),
    ]
    rows = [[one.figure, f"{one.value:g}", one.target or "-", _verdict(one)] for one in figures]
    print_table(["the policy alone", "value", "target", "holds"], rows)
    print(f"\n{len(figures)} figures in {write_report('policy', figures)}; reproduce with: {COMMAND}")


async def _alone(folder: Path) -> Cost:
    """Limits of this process alone; first without any stopwatch inside of a call, then with one."""
    scene = Scene(folder, SIZE, None)
    async with scene.opened():
        askers = [scene.asker(number) for number in range(BATCH)]
        samples = await _samples(scene, askers)
        steps = [await _steps(scene, askers) for _ in range(BATCHES)]
        paced_us, _ = await _paced(scene, ALONE_PACED_S)
    undisturbed = at_full_speed(samples)
    medians = {step: statistics.median(one[step] for one in steps) for step in STEPS}
    return Cost(
        median_us=_median(undisturbed),
        all_us=_median(samples),
        full_share=len(undisturbed) / len(samples),
        paced_us=paced_us,
        steps_us=medians,
    )


async def _shared(folder: Path, url: str) -> Shared:
    """Limits shared by Redis; what calls wait for is told of a second's calls spread over the second."""
    ledger = CountingLedger(RedisLedger(url, gateway_id="bench", replicas=2))
    scene = Scene(folder, SIZE, ledger)
    async with scene.opened():
        await _paced(scene, WARM_UP * PACE_S)
        exchanges, for_rates, waits = ledger.exchanges, ledger.for_rates, scene.waits_for_ledger
        started_s = time.monotonic()
        paced_us, calls = await _paced(scene, PACED_S)
        spent_s = time.monotonic() - started_s
        exchanges, for_rates = ledger.exchanges - exchanges, ledger.for_rates - for_rates
        waits = scene.waits_for_ledger - waits
        samples = await _samples(scene, [scene.asker(number) for number in range(BATCH)])
    median_us = _median(at_full_speed(samples))
    share = 1000 / calls
    return Shared(median_us, paced_us, calls / spent_s, exchanges * share, for_rates * share, waits * share)


async def _samples(scene: Scene, askers: Sequence[Asker]) -> list[Sample]:
    """CPU of a call in µs in batches that follow each other, until enough were at full speed."""
    for _ in range(WARM_UP):
        await _batch(scene, askers)
        await asyncio.sleep(0)
    samples: list[Sample] = []
    clock, until_s = Clock(), time.monotonic() + LONGEST_S
    while len(samples) < BATCHES or (len(at_full_speed(samples)) < BATCHES and time.monotonic() < until_s):
        samples.append(clock.sample(await _batch(scene, askers)))
        await asyncio.sleep(0)
    return samples


def _median(samples: Sequence[Sample]) -> float:
    return statistics.median(one.spent_us for one in samples)


async def _paced(scene: Scene, for_s: float) -> tuple[float, int]:
    """CPU of a call in µs where a few come every 10 ms, the median; and how many came."""
    askers = [scene.asker(number) for number in range(PACED_BATCH * 16)]
    batches: list[float] = []
    until_s = time.monotonic() + for_s
    while time.monotonic() < until_s:
        start = len(batches) * PACED_BATCH % len(askers)
        batches.append(await _batch(scene, askers[start : start + PACED_BATCH]))
        await asyncio.sleep(PACE_S)
    return statistics.median(batches), len(batches) * PACED_BATCH


async def _batch(scene: Scene, askers: Sequence[Asker]) -> float:
    """CPU of a call in µs."""
    started_s = time.process_time()
    for asker in askers:
        await scene.call(asker, no_lap)
    return (time.process_time() - started_s) / len(askers) * 1e6


async def _steps(scene: Scene, askers: Sequence[Asker]) -> dict[str, float]:
    """Time of each step of a call in µs."""
    spent = dict.fromkeys(STEPS, 0.0)
    last_s = 0.0

    def lap(step: str) -> None:
        nonlocal last_s
        now_s = time.perf_counter()
        spent[step] += now_s - last_s
        last_s = now_s

    for asker in askers:
        last_s = time.perf_counter()
        await scene.call(asker, lap)
    return {step: seconds / len(askers) * 1e6 for step, seconds in spent.items()}


def _interpreted() -> Cost:
    """The same without the compiled policy."""
    command = [sys.executable, "-m", "tests.bench.policy", ALONE]
    variables = {**os.environ, compiled.SWITCH: "0"}
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=ALONE_LIMIT_S, env=variables
    )
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def _memory() -> dict[str, float]:
    """Resident MiB: before, loaded, half way and at the end of the calls."""
    command = [sys.executable, "-m", "tests.bench.policy_memory"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=MEMORY_LIMIT_S)
    told = json.loads(done.stdout.splitlines()[-1])
    half, during = len(told["during"]) // 2, told["during"]
    return {
        "before": told["before"],
        "loaded": told["loaded"],
        "half": statistics.median(during[half - 2 : half + 3]),
        "end": statistics.median(during[-5:]),
    }


def _cpu_figures(cost: Cost, interpreted: Cost) -> list[Figure]:
    decisions_us = sum(spent for step, spent in cost.steps_us.items() if step not in BOOKS)
    target = f"≤ {MAX_CPU_US:g}"
    return [
        _figure("the policy is compiled", float(IS_COMPILED)),
        _figure(
            "CPU µs/call, everything on: cached API key, 8 limits, texts, usage record",
            cost.median_us,
            target,
            holds=cost.median_us <= MAX_CPU_US,
        ),
        _figure("  share of the batches at the processor's full speed, which count", cost.full_share),
        _figure("  over all batches, also while the core was shared", cost.all_us),
        _figure(
            "  of it the decisions, without texts and record",
            decisions_us,
            target,
            holds=decisions_us <= MAX_CPU_US,
        ),
        *(_figure(f"  of it {step}, µs", spent) for step, spent in cost.steps_us.items()),
        _figure("share of the same, interpreted", cost.median_us / interpreted.median_us),
    ]


def _shared_figures(shared: Shared, alone: Cost) -> list[Figure]:
    waiting = shared.waiting_calls
    return [
        _figure(
            "with Redis: CPU µs/call",
            shared.median_us,
            f"≤ {MAX_CPU_US:g}",
            holds=shared.median_us <= MAX_CPU_US,
        ),
        _figure("a few calls every 10 ms, without Redis: CPU µs/call", alone.paced_us),
        _figure("a few calls every 10 ms, with Redis: CPU µs/call", shared.paced_us),
        _figure("  calls/s offered", shared.calls_per_s),
        _figure("with Redis: round trips per 1,000 calls", shared.round_trips),
        _figure("  of them because the lease of a request rate lapsed", shared.for_rates),
        _figure(
            "with Redis: calls of 1,000 that waited for one",
            waiting,
            f"< {MAX_WAITING_SHARE * 1000:g}",
            holds=waiting < MAX_WAITING_SHARE * 1000,
        ),
    ]


def _memory_figures(resident: dict[str, float]) -> list[Figure]:
    growth = resident["end"] - resident["half"]
    limit = resident["half"] * MAX_GROWTH_SHARE
    return [
        _figure("resident MiB: nothing loaded", resident["before"]),
        _figure("resident MiB: 10,000 keys and 1,000 models", resident["loaded"]),
        _figure("resident MiB: after 50,000 calls", resident["half"]),
        _figure("resident MiB: after 100,000 calls", resident["end"]),
        _figure("growth MiB over the second 50,000", growth, f"≤ {limit:.1f}", holds=growth <= limit),
    ]


def _figure(name: str, value: float, target: str | None = None, *, holds: bool = True) -> Figure:
    return Figure(name, round(value, 2), COMMAND, target, holds)


def _verdict(figure: Figure) -> str:
    if figure.target is None:
        return "-"
    return "yes" if figure.holds else "NO"


if __name__ == "__main__":
    main()
