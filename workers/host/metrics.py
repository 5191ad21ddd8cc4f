"""The metrics of a host, in one registry that it owns."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from workers.host.residency import Phase

LOAD_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120, 300, 600)


class HostMetrics:
    """Counts what a host does with its models."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._phase = Gauge(
            "mesh_host_model_phase",
            "1 for the phase that the model is in: cold, loading, ready, unloading, failed.",
            ("model", "phase"),
            registry=self.registry,
        )
        self._resident = Gauge(
            "mesh_host_resident_bytes",
            "Memory of the model's worker, measured once it was loaded; 0 while it is not.",
            ("model",),
            registry=self.registry,
        )
        self._waiting = Gauge(
            "mesh_host_waiting", "Calls that wait for the model to load.", ("model",), registry=self.registry
        )
        self._in_flight = Gauge(
            "mesh_host_in_flight",
            "Calls that the model's worker answers.",
            ("model",),
            registry=self.registry,
        )
        self._loads = Counter(
            "mesh_host_loads", "Loads that ended, by how.", ("model", "outcome"), registry=self.registry
        )
        self._load_seconds = Histogram(
            "mesh_host_load_seconds",
            "From the start of a model's worker to its first answer.",
            ("model",),
            buckets=LOAD_BUCKETS_S,
            registry=self.registry,
        )
        self._unloads = Counter(
            "mesh_host_unloads",
            "Models that left the memory, by why: room, idle, asked, crashed.",
            ("model", "reason"),
            registry=self.registry,
        )

    def phase(self, model: str, phase: Phase) -> None:
        """The model is in this phase now."""
        for one in Phase:
            self._phase.labels(model, one.value).set(one is phase)

    def resident(self, model: str, size_bytes: int) -> None:
        """What its worker takes in memory."""
        self._resident.labels(model).set(size_bytes)

    def calls(self, model: str, *, waiting: int, in_flight: int) -> None:
        """How many wait for it, and how many it answers."""
        self._waiting.labels(model).set(waiting)
        self._in_flight.labels(model).set(in_flight)

    def loaded(self, model: str, seconds: float) -> None:
        """A load ended well."""
        self._loads.labels(model, "ready").inc()
        self._load_seconds.labels(model).observe(seconds)

    def load_failed(self, model: str) -> None:
        """A load ended badly."""
        self._loads.labels(model, "failed").inc()

    def unloaded(self, model: str, reason: str) -> None:
        """A model left the memory."""
        self._unloads.labels(model, reason).inc()
