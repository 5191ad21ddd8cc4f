"""The metrics of a worker, in one registry that it owns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from inference_mesh.tracing import exemplar
from inference_mesh.v1 import payload_pb2
from workers.engine import Load
from workers.inference_pool_metrics import InferencePoolMetrics

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
TOKEN_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


M = TypeVar("M", Counter, Gauge, Histogram)


class Series(Generic[M]):
    """A metric whose series are remembered: looking one up by its labels costs more than counting."""

    def __init__(self, metric: M) -> None:
        self._metric: M = metric
        self._known: dict[tuple[str, ...], M] = {}

    def labels(self, *values: str) -> M:
        """The series of these labels, which are few."""
        found = self._known.get(values)
        if found is None:
            found = self._known[values] = self._metric.labels(*values)
        return found


class LoadMetrics:
    """Owns the series of how busy the engine is."""

    def __init__(self, registry: CollectorRegistry, model: str) -> None:
        self._registry = registry
        self._model = model
        self._running = self._gauge("running", "Requests at work in the engine.")
        self._queued = self._gauge("queue_depth", "Requests that wait for the engine.")
        self._utilization = self._gauge("utilization_ratio", "Share of the engine at work, 0 to 1.")
        self._kv = self._gauge("kv_cache_usage_ratio", "Share of the KV cache in use, 0 to 1.")
        self._slots = self._gauge("slots", "Requests that the engine works on at once.")

    def observe_load(self, load: Load) -> None:
        """How busy the engine is now."""
        self._running.labels(self._model).set(load.running)
        self._queued.labels(self._model).set(load.queued)
        self._utilization.labels(self._model).set(load.utilization)
        self._kv.labels(self._model).set(load.kv_utilization)
        self._slots.labels(self._model).set(load.slots)

    def _gauge(self, name: str, description: str) -> Gauge:
        return Gauge(f"mesh_worker_{name}", description, ("model",), registry=self._registry)


class WorkerMetrics:
    """Counts what a worker does; also the engine's observer."""

    def __init__(self, model: str) -> None:
        """model: name of the worker's one model, a label of every series."""
        self.registry = CollectorRegistry()
        self._model = model
        self._requests = self._counter(
            "mesh_worker_requests", "Requests that ended.", ("model", "protocol", "code")
        )
        self._seconds = Series(
            Histogram(
                "mesh_worker_request_seconds",
                "From arrival to the end of the answer.",
                ("model", "protocol"),
                buckets=LATENCY_BUCKETS_S,
                registry=self.registry,
            )
        )
        self._first_token = self._histogram(
            "mesh_worker_time_to_first_token_seconds",
            "From arrival to the first piece of a generated text.",
            LATENCY_BUCKETS_S,
        )
        self._later_tokens = self._histogram(
            "mesh_worker_time_per_output_token_seconds",
            "Mean time between two tokens of a generated text, of each text.",
            TOKEN_BUCKETS_S,
        )
        self._queue_wait = self._histogram(
            "mesh_worker_queue_wait_seconds",
            "How long the requests waited for the engine that it answered.",
            LATENCY_BUCKETS_S,
        )
        self._batch = self._histogram(
            "mesh_worker_batch_rows", "Rows that were computed together.", BATCH_BUCKETS
        )
        self._tokens = self._counter(
            "mesh_worker_tokens",
            "Tokens by kind: prompt, completion, cached (of the prompt).",
            ("model", "kind"),
        )
        self._expired = self._counter(
            "mesh_worker_expired", "Requests whose deadline passed before they were answered."
        )
        self._dropped = self._counter(
            "mesh_worker_queue_drops",
            "Requests given up in the queue, before any work on them: too late, or nobody waits any more.",
        )
        self._in_flight = self._gauge("mesh_worker_in_flight", "Requests taken and not ended.")
        self._ready = self._gauge("mesh_worker_model_ready", "1 if the model answers.")
        self._loads: list[LoadMetrics | InferencePoolMetrics] = [LoadMetrics(self.registry, model)]
        self.ready(False)

    def join_inference_pool(self) -> None:
        """Tell the load by the names as well that the endpoint picker of an InferencePool reads."""
        self._loads.append(InferencePoolMetrics(self.registry, self._model))

    def request_started(self) -> None:
        """A request was taken."""
        self._in_flight.labels(self._model).inc()

    def request_ended(self, protocol: str, code: str, seconds: float) -> None:
        """A request ended, in whatever way."""
        self._in_flight.labels(self._model).dec()
        self._requests.labels(self._model, protocol, code).inc()
        self._seconds.labels(self._model, protocol).observe(seconds, exemplar())

    def first_token(self, seconds: float) -> None:
        """The first piece of a text left the engine."""
        self._first_token.labels(self._model).observe(seconds, exemplar())

    def later_tokens(self, mean_s: float) -> None:
        """A text is whole. mean_s: of the time between two of its tokens."""
        self._later_tokens.labels(self._model).observe(mean_s)

    def queued_for(self, seconds: float) -> None:
        """A request that was answered had waited for the engine."""
        self._queue_wait.labels(self._model).observe(seconds)

    def used(self, usage: payload_pb2.Usage) -> None:
        """A request consumed tokens."""
        for kind in ("prompt", "completion", "cached"):
            self._tokens.labels(self._model, kind).inc(getattr(usage, f"{kind}_tokens"))

    def ready(self, is_ready: bool) -> None:
        """The model began or ceased to answer."""
        self._ready.labels(self._model).set(is_ready)

    def observe_load(self, load: Load) -> None:
        """How busy the engine is now."""
        for one in self._loads:
            one.observe_load(load)

    def batch_computed(self, rows: int) -> None:
        """The engine computed a batch."""
        self._batch.labels(self._model).observe(rows)

    def request_expired(self) -> None:
        """A deadline passed before the answer."""
        self._expired.labels(self._model).inc()

    def requests_dropped(self, count: int) -> None:
        """Queued requests were given up before any work on them."""
        self._dropped.labels(self._model).inc(count)

    def _counter(self, name: str, description: str, labels: tuple[str, ...] = ("model",)) -> Series[Counter]:
        return Series(Counter(name, description, labels, registry=self.registry))

    def _gauge(self, name: str, description: str) -> Series[Gauge]:
        return Series(Gauge(name, description, ("model",), registry=self.registry))

    def _histogram(self, name: str, description: str, buckets: Sequence[float]) -> Series[Histogram]:
        return Series(Histogram(name, description, ("model",), buckets=buckets, registry=self.registry))
