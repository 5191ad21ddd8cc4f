"""The metrics of the canaries. `model` is a name of the registry that has a canary."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from gateway.policy.routing.canary import CanaryPhase
from gateway.tally import Level, Tally


class CanaryMetrics:
    """Owns the series of this room in the gateway's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.weight = Level(
            "mesh_gateway_canary_weight",
            "Percent of the traffic that the canary gets.",
            ("model",),
            registry,
        )
        self.phase = Level(
            "mesh_gateway_canary_phase",
            "1 for the phase that the canary is in, 0 for the others.",
            ("model", "phase"),
            registry,
        )
        self.requests = Tally(
            "mesh_gateway_canary_requests_total",
            "Calls that say something of a version: good, or fault of its worker.",
            ("model", "side", "result"),
            registry,
        )
        self.store_up = Gauge(
            "mesh_gateway_canary_store_up",
            "1 if the canaries' state can be kept, 0 if they stand still because Redis cannot be asked.",
            registry=registry,
        )

    def show(self, model: str, weight: float, phase: CanaryPhase | None) -> None:
        """How far a canary is; phase None = not known."""
        self.weight.set((model,), weight)
        for one in CanaryPhase:
            self.phase.set((model, one.value), one is phase)

    def forget(self, model: str) -> None:
        """Drop the series of a canary that is no more."""
        for metric in (self.weight, self.phase, self.requests):
            metric.forget(lambda labels: labels[0] == model)
