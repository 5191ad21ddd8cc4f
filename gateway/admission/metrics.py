"""The metrics of the queues. `model` is a name of the registry, `priority` one of three."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.policy.facts import Priority, RefusalKind

DISPLACED = "displaced"
REASONS = (RefusalKind.QUEUE_FULL.value, RefusalKind.TOO_LATE.value, DISPLACED)
WAIT_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

DepthOf = Callable[[Priority], float]
"""How many calls of a class wait for a model."""


class AdmissionMetrics:
    """Owns the series of this room in the gateway's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._depth = Gauge(
            "mesh_gateway_queue_depth",
            "Calls that wait for a model.",
            ("model", "priority"),
            registry=registry,
        )
        self._waits = Histogram(
            "mesh_gateway_queue_wait_seconds",
            "How long the calls waited that could not start at once and had their turn.",
            ("model", "priority"),
            buckets=WAIT_BUCKETS_S,
            registry=registry,
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
            self._depth.labels(model, _label(priority)).set_function(depth)

    def waited(self, model: str, priority: Priority, wait_s: float) -> None:
        """A call had its turn after a wait."""
        self._waits.labels(model, _label(priority)).observe(wait_s)

    def refused(self, model: str, priority: Priority, reason: str) -> None:
        """A call was refused, for one of REASONS."""
        self._refusals.labels(model, _label(priority), reason).inc()

    def forget_all_but(self, models: frozenset[str]) -> None:
        """Drop the series of models that are no more."""
        for model in self._models - models:
            for priority in map(_label, Priority):
                self._depth.remove(model, priority)
                with contextlib.suppress(KeyError):
                    self._waits.remove(model, priority)
            for priority, reason in itertools.product(map(_label, Priority), REASONS):
                with contextlib.suppress(KeyError):
                    self._refusals.remove(model, priority, reason)
        self._models &= models


def _label(priority: Priority) -> str:
    return priority.name.lower()
