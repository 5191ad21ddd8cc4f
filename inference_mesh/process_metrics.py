"""What every process measures of itself: CPU, memory, open files, and how late its event loop is."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector

BEAT_S = 0.1
LAG_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class ProcessMetrics:
    """Owns these series in a process's registry, and the timer that shows a blocked event loop."""

    def __init__(self, registry: CollectorRegistry) -> None:
        ProcessCollector(registry=registry)
        self._lag = Histogram(
            "mesh_event_loop_lag_seconds",
            "How late a timer of the event loop runs, ten times a second: what blocks it delays every call.",
            buckets=LAG_BUCKETS_S,
            registry=registry,
        )
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measure the running event loop from now on."""
        self._wind(asyncio.get_running_loop())

    def stop(self) -> None:
        """Measure no more. Safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wind(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_s = loop.time() + BEAT_S
        self._timer = loop.call_at(self._due_s, self._beat, loop)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._lag.observe(max(0.0, loop.time() - self._due_s))
        self._wind(loop)
