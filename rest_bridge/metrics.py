"""Every metric of the bridge."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from inference_mesh.tracing import exemplar

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class BridgeMetrics:
    """The metrics of one bridge, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "mesh_bridge_requests",
            "Answered HTTP requests; code 499 = the client left.",
            ["route", "method", "code"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "mesh_bridge_request_seconds",
            "From the head of a request to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "mesh_bridge_in_flight", "Requests that are being answered.", registry=self.registry
        )
        self.first_event_seconds = Histogram(
            "mesh_bridge_first_event_seconds",
            "From the head of a streamed request to its first event.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.broken_streams = Counter(
            "mesh_bridge_broken_streams",
            "Streams that ended with an error event, by the error's code.",
            ["code"],
            registry=self.registry,
        )

    def count(self, route: str, method: str, code: int, seconds: float) -> None:
        """Count one answered request; `route` is a template, never a path that a client sent."""
        self.requests.labels(route, method if method in METHODS else "other", str(code)).inc()
        self.request_seconds.labels(route).observe(seconds, exemplar())
