"""All metrics of the gateway.

Labels are bounded: `model` is a name of the registry or "unknown", never what a client sent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.tally import Level, Tally
from gateway.timings import Timings

UNKNOWN_MODEL = "unknown"
REQUEST_BUCKETS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class GatewayMetrics:
    """Owns the metrics and the registry that they are scraped from."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._models: set[str] = set()
        self.requests = Tally(
            "mesh_gateway_requests_total",
            "Calls that ended, by their gRPC code.",
            ("model", "method", "code"),
            self.registry,
        )
        self.request_seconds = Timings(
            "mesh_gateway_request_seconds",
            "Time from a call's arrival to its end.",
            ("model", "method"),
            REQUEST_BUCKETS_S,
            self.registry,
        )
        self.in_flight = Level("mesh_gateway_in_flight", "Calls that run now.", ("model",), self.registry)
        self.registry_reloads, self.registry_is_good = self._of_file("registry", "the model registry")
        self._certificate_ends = Gauge(
            "mesh_gateway_certificate_expiry_timestamp_seconds",
            "Unix time at which a certificate ends; by the setting that names its file.",
            ("certificate",),
            registry=self.registry,
        )
        self.keys_reloads, self.keys_are_good = self._of_file("keys", "the key file")

    def keep_only(self, models: Collection[str]) -> None:
        """Drop the series of models that are no more; calls that still run end in series of their own."""
        gone = self._models.difference(models)
        for metric in (self.requests, self.request_seconds):
            metric.forget(lambda labels: labels[0] in gone)
        self.in_flight.forget(lambda labels: labels[0] in gone and not self.in_flight.of(labels))
        self._models = {one for one in gone if self.in_flight.of((one,))} | set(models)

    def watch_certificates(self, ends_at_s: Callable[[], dict[str, float]]) -> None:
        """Ask for the ends of the certificates, by setting, whenever the metrics are read."""
        for name in ends_at_s():
            self._certificate_ends.labels(name).set_function(partial(_value_of, ends_at_s, name))

    def _of_file(self, name: str, what: str) -> tuple[Counter, Gauge]:
        reloads = Counter(
            f"mesh_gateway_{name}_reloads_total",
            f"Readings of {what} after a change, by result.",
            ("result",),
            registry=self.registry,
        )
        is_good = Gauge(
            f"mesh_gateway_{name}_last_reload_successful",
            f"1 if the last reading of {what} succeeded, 0 if the one before it still applies.",
            registry=self.registry,
        )
        return reloads, is_good


def _value_of(values: Callable[[], dict[str, float]], name: str) -> float:
    return values()[name]
