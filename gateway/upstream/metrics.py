"""What the gateway measures of replicas: which are ready, left out, tried again or silent.

Labels are bounded: `model` is a name of the registry, `endpoint` an address of its replicas.
"""

from __future__ import annotations

import contextlib
from collections import Counter as Multiset
from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter

from gateway.tally import Level, Tally


class UpstreamMetrics:
    """Owns the metrics of the upstream side."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.retries = Counter(
            "mesh_gateway_retries_total",
            "Attempts after the first, on another replica.",
            ("model",),
            registry=registry,
        )
        self.ejections = Counter(
            "mesh_gateway_ejections_total",
            "Times that a replica was left out for a while because calls to it failed or it was silent.",
            ("model", "endpoint"),
            registry=registry,
        )
        self.endpoint_ready = Level(
            "mesh_gateway_endpoint_ready",
            "1 if the replica is healthy and takes calls, else 0.",
            ("model", "endpoint"),
            registry,
        )
        self.capacity = Level(
            "mesh_gateway_capacity",
            "Calls that the ready replicas of a version work on at once.",
            ("model", "version"),
            registry,
        )
        self.silences = Counter(
            "mesh_gateway_silent_attempts_total",
            "Attempts given up because the replica was silent, by what was awaited.",
            ("model", "awaited"),
            registry=registry,
        )
        self.broken_streams = Counter(
            "mesh_gateway_broken_streams_total",
            "Streams that broke after their first message: resumed on another replica, or ended.",
            ("model", "result"),
            registry=registry,
        )
        self.prefix_picks = Tally(
            "mesh_gateway_prefix_picks_total",
            "Choices of a replica by the beginning of the prompt: its own one, or another as that is busy.",
            ("model", "result"),
            registry,
        )
        self._shown: Multiset[tuple[str, str]] = Multiset()
        self._models: set[str] = set()

    def show_endpoint(self, model: str, endpoint: str) -> None:
        """Have series for a replica; two versions of a model may share its address."""
        self._shown[model, endpoint] += 1
        if self._shown[model, endpoint] == 1:
            self.endpoint_ready.set((model, endpoint), 0)

    def forget_endpoint(self, model: str, endpoint: str) -> None:
        """Drop the series of a replica that is no more, once no version has it."""
        self._shown[model, endpoint] -= 1
        if self._shown[model, endpoint] > 0:
            return
        del self._shown[model, endpoint]
        self.endpoint_ready.remove((model, endpoint))
        with contextlib.suppress(KeyError):
            self.ejections.remove(model, endpoint)

    def keep_only(self, models: Collection[str]) -> None:
        """Drop the series of models that are no more."""
        for gone in self._models.difference(models):
            for metric in (self.retries, self.silences, self.broken_streams):
                metric.remove_by_labels({"model": gone})
        self._models = set(models)
        self.prefix_picks.forget(lambda labels: labels[0] not in self._models)

    def forget_version(self, model: str, version: str) -> None:
        """Drop the series of a version that is no more."""
        self.capacity.remove((model, version))
