"""The metrics of the response cache. `model` is a name of the registry that has one."""

from __future__ import annotations

import contextlib

from prometheus_client import CollectorRegistry, Counter, Gauge

EVICTED, EXPIRED = "evicted", "expired"


class ResponseCacheMetrics:
    """Owns the series of this room in the gateway's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lookups = Counter(
            "mesh_gateway_response_cache_lookups_total",
            "Requests whose answer may be kept, by whether it was: hit or miss.",
            ("model", "result"),
            registry=registry,
        )
        self.size_bytes = Gauge(
            "mesh_gateway_response_cache_bytes",
            "Memory that the kept answers take.",
            ("model",),
            registry=registry,
        )
        self.answers = Gauge(
            "mesh_gateway_response_cache_answers", "Answers that are kept.", ("model",), registry=registry
        )
        self.evictions = Counter(
            "mesh_gateway_response_cache_evictions_total",
            "Answers that were dropped: evicted for lack of memory, or expired.",
            ("model", "reason"),
            registry=registry,
        )

    def forget(self, model: str) -> None:
        """Drop the series of a cache that is no more."""
        series = (
            (self.lookups, (model, "hit")),
            (self.lookups, (model, "miss")),
            (self.size_bytes, (model,)),
            (self.answers, (model,)),
            (self.evictions, (model, EVICTED)),
            (self.evictions, (model, EXPIRED)),
        )
        for metric, labels in series:
            with contextlib.suppress(KeyError):
                metric.remove(*labels)
