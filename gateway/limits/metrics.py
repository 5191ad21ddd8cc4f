"""The metrics of the limits. A scope is a key, tenant, or model as such; an owner is one of them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.policy.facts import Standing
from gateway.policy.limits.rules import LimitRule
from inference_mesh.config.limits import PERIODS_S

Budgets = Callable[[], Sequence[tuple[LimitRule, Standing]]]
"""How the token budgets stand that are in use."""


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


class BudgetMetrics(Collector):
    """The fullest token budgets, asked for when the metrics are read."""

    _type = "gauge"
    _name = "mesh_gateway_token_budget_used_ratio"  # these four as those of the library's metrics
    _documentation = (
        "Share of a token budget that is used or reserved in its window, by its length and whose it is; "
        "the fullest ones only, and none whose state Redis cannot tell."
    )
    _labelnames = ("scope", "owner", "per")

    def __init__(self, registry: CollectorRegistry, budgets: Budgets, series_limit: int) -> None:
        """series_limit: how many budgets are shown, 0 or more. budgets: asked by another thread."""
        self._budgets = budgets
        self._series_limit = series_limit
        registry.register(self)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The metric without samples, so that its name is taken."""
        yield GaugeMetricFamily(self._name, self._documentation, labels=self._labelnames)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The samples of this moment."""
        family = GaugeMetricFamily(self._name, self._documentation, labels=self._labelnames)
        known = [(rule, standing) for rule, standing in self._budgets() if not standing.is_degraded]
        for rule, standing in heapq.nlargest(self._series_limit, known, key=_used_ratio):
            family.add_metric(_labels_of(rule), _used_ratio((rule, standing)))
        yield family


def _used_ratio(budget: tuple[LimitRule, Standing]) -> float:
    return 1 - budget[1].remaining / budget[1].limit


def _labels_of(rule: LimitRule) -> tuple[str, str, str]:
    owner = rule.name.partition(":")[2].rpartition(":")[0]
    per = next(name for name, seconds in PERIODS_S.items() if seconds == rule.window_s)
    return rule.scope, owner, per
