"""The metrics of the queues. `model` is a name of the registry, `priority` one of three."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter

from gateway.policy.facts import Priority, RefusalKind
from gateway.readings import Readings
from gateway.timings import Timings

DISPLACED = "displaced"
REASONS = (RefusalKind.QUEUE_FULL.value, RefusalKind.TOO_LATE.value, DISPLACED)
WAIT_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

DepthOf = Callable[[Priority], float]
"""How many calls of a class wait for a model."""


class AdmissionMetrics:
    """Owns the series of this room in the gateway's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._depth = Readings(
            "mesh_gateway_queue_depth", "Calls that wait for a model.", ("model", "priority"), registry
        )
        self._waits = Timings(
            "mesh_gateway_queue_wait_seconds",
            "How long the calls waited that could not start at once and had their turn.",
            ("model", "priority"),
            WAIT_BUCKETS_S,
            registry,
        )
        self._refusals = Counter(
            "mesh_gateway_queue_refusals_total",
            "Calls refused because the queue was full (queue_full), because another call took their place "
            "in it (displaced), or because they would start too late (too_late).",
            ("model", "priority", "reason"),
            registry=registry,
        )
        self._models: set[str] = set()

    def watch(self, model: str, depth_of: DepthOf) -> None:
        """Ask for the depth of a model's queues whenever the metrics are read."""
        self._models.add(model)
        for priority in Priority:
            depth = functools.partial(depth_of, priority)
            self._depth.watch((model, _label(priority)), depth)

    def waited(self, model: str, priority: Priority, wait_s: float) -> None:
        """A call had its turn after a wait."""
        self._waits.observe((model, _label(priority)), wait_s)

    def refused(self, model: str, priority: Priority, reason: str) -> None:
        """A call was refused, for one of REASONS."""
        self._refusals.labels(model, _label(priority), reason).inc()

    def forget_all_but(self, models: frozenset[str]) -> None:
        """Drop the series of models that are no more."""
        for metric in (self._depth, self._waits):
            metric.forget(lambda labels: labels[0] not in models)
        for model in self._models - models:
            for priority, reason in itertools.product(map(_label, Priority), REASONS):
                with contextlib.suppress(KeyError):
                    self._refusals.remove(model, priority, reason)
        self._models &= models


def _label(priority: Priority) -> str:
    return priority.name.lower()
