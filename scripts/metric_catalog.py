"""Every metric that the processes have, read from the registries of the code."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from gateway.admission.metrics import AdmissionMetrics
from gateway.canary.metrics import CanaryMetrics
from gateway.identity.metrics import IdentityMetrics
from gateway.limits.metrics import BudgetMetrics, LimitMetrics
from gateway.metrics import GatewayMetrics
from gateway.response_cache.metrics import ResponseCacheMetrics
from gateway.shadow.metrics import ShadowMetrics
from gateway.upstream.metrics import UpstreamMetrics
from gateway.usage.metrics import UsageMetrics
from inference_mesh.process_metrics import ProcessMetrics
from rest_bridge.metrics import BridgeMetrics
from workers.host.metrics import HostMetrics
from workers.metrics import WorkerMetrics

EVERY_PROCESS = "every process"
ATTRIBUTES = ("_name", "_type", "_labelnames", "_documentation")
"""What each metric of the library knows of itself."""
ROOMS: tuple[Callable[[CollectorRegistry], object], ...] = (
    AdmissionMetrics,
    CanaryMetrics,
    IdentityMetrics,
    LimitMetrics,
    ResponseCacheMetrics,
    ShadowMetrics,
    UpstreamMetrics,
)
"""Those of the gateway that take nothing but the registry."""


class Metric(NamedTuple):
    """One metric. name: as it is scraped, of a histogram without suffix. kind: counter, gauge, histogram."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def metrics_by_process() -> dict[str, list[Metric]]:
    """All metrics of each kind of process, sorted by name."""
    registries = {
        EVERY_PROCESS: _process_registry(),
        "gateway": _gateway_registry(),
        "workers": _worker_registry(),
        "workers.host": HostMetrics().registry,
        "rest_bridge": BridgeMetrics().registry,
    }
    return {process: sorted(_metrics_of(registry)) for process, registry in registries.items()}


def _process_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessMetrics(registry)
    return registry


def _gateway_registry() -> CollectorRegistry:
    registry = GatewayMetrics().registry
    for metrics in ROOMS:
        metrics(registry)
    UsageMetrics(registry, tenant_limit=0)
    BudgetMetrics(registry, lambda: (), series_limit=0)
    return registry


def _worker_registry() -> CollectorRegistry:
    metrics = WorkerMetrics("example")
    metrics.join_inference_pool()
    return metrics.registry


def _metrics_of(registry: CollectorRegistry) -> list[Metric]:
    """The metrics of a registry, which lists by itself only what has samples."""
    found = []
    for collector in registry._collector_to_names:  # noqa: SLF001
        if hasattr(collector, "_labelnames"):
            facts = [tuple(getattr(collector, name, "") for name in ATTRIBUTES)]
        else:  # of the library's own collectors all families have samples, and none has labels
            facts = [(one.name, one.type, (), one.documentation) for one in collector.collect()]
        for name, kind, labels, meaning in facts:
            full_name = f"{name}_total" if kind == "counter" else name
            found.append(Metric(full_name, kind, tuple(labels), meaning))
    return found
