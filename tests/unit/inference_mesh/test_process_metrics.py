from __future__ import annotations

import asyncio
import time

from prometheus_client import CollectorRegistry

from inference_mesh.process_metrics import ProcessMetrics

LAG = "mesh_event_loop_lag_seconds"
BLOCKED_S = 0.3


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(name, labels) or 0.0


async def beats(registry: CollectorRegistry, count: int) -> None:
    while value(registry, f"{LAG}_count") < count:
        await asyncio.sleep(0.01)


async def test_a_blocked_event_loop_is_seen_once() -> None:
    registry = CollectorRegistry()
    metrics = ProcessMetrics(registry)
    metrics.start()
    await beats(registry, 1)
    before = value(registry, f"{LAG}_sum")
    time.sleep(BLOCKED_S)  # noqa: ASYNC251  # what must not happen in a process
    await beats(registry, 3)
    metrics.stop()
    assert value(registry, f"{LAG}_sum") - before > BLOCKED_S - 0.11
    assert value(registry, f"{LAG}_bucket", le="0.1") < value(registry, f"{LAG}_count")


async def test_after_a_stop_nothing_is_measured() -> None:
    registry = CollectorRegistry()
    metrics = ProcessMetrics(registry)
    metrics.start()
    metrics.stop()
    metrics.stop()
    await asyncio.sleep(0.15)
    assert value(registry, f"{LAG}_count") == 0


def test_cpu_memory_and_open_files_are_told() -> None:
    registry = CollectorRegistry()
    ProcessMetrics(registry)
    assert value(registry, "process_cpu_seconds_total") > 0
    assert value(registry, "process_resident_memory_bytes") > 1_000_000
    assert 0 < value(registry, "process_open_fds") < value(registry, "process_max_fds")
