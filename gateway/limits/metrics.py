"""The metrics of the limits. No label names a caller: a scope is a key, tenant, or model as such."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class LimitMetrics:
    """Owns the series of this room in the gateway's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ledger_up = Gauge(
            "mesh_gateway_ledger_up",
            "1 if the shared limits can be asked, 0 if each rule's policy for that applies.",
            registry=registry,
        )
        self.ledger_calls = Counter(
            "mesh_gateway_ledger_calls_total",
            "Exchanges with the shared ledger: ok, late (the caller did not wait), or failed.",
            ("result",),
            registry=registry,
        )
        self.degraded = Counter(
            "mesh_gateway_limit_degraded_total",
            "Calls decided without the ledger, by the policy of their rules.",
            ("policy",),
            registry=registry,
        )
        self.refusals = Counter(
            "mesh_gateway_limit_refusals_total",
            "Calls refused by a limit, by its kind and whose it is.",
            ("kind", "scope"),
            registry=registry,
        )
