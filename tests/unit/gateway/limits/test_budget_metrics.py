"""How full the token budgets are, as Prometheus reads it: the fullest, and only what is known."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from gateway.limits.grant import Grant
from gateway.limits.limiter import Limiter
from gateway.limits.metrics import BudgetMetrics, LimitMetrics
from gateway.policy.facts import Cost, Standing
from gateway.policy.limits.rules import LimitRule

NAME = "mesh_gateway_token_budget_used_ratio"
DAY = LimitRule("tenant:acme:tokens", "tokens", "tenant", 1000, 86_400.0)
MINUTE = LimitRule("tenant:acme/chat:tokens", "tokens", "tenant_model", 100, 60.0)
CALLS = LimitRule("key:abcdefgh:concurrency", "concurrency", "key", 2)


def samples(registry: CollectorRegistry) -> dict[tuple[str, str, str], float]:
    return {
        (one.labels["scope"], one.labels["owner"], one.labels["per"]): round(one.value, 6)
        for family in registry.collect()
        for one in family.samples
        if one.name == NAME
    }


async def test_what_is_used_or_reserved_of_each_budget_is_told() -> None:
    registry = CollectorRegistry()
    limits = Limiter(LimitMetrics(registry))
    BudgetMetrics(registry, lambda: limits.budgets(1.0), series_limit=10)
    assert samples(registry) == {}
    grant = limits.try_acquire((DAY, MINUTE, CALLS), Cost(10, 40), 0.0)
    assert isinstance(grant, Grant)
    expected = {("tenant", "acme", "day"): 0.05, ("tenant_model", "acme/chat", "minute"): 0.5}
    assert samples(registry) == expected
    assert await asyncio.to_thread(samples, registry) == expected


@pytest.mark.parametrize(("limit", "shown"), [(0, []), (1, ["b"]), (3, ["b", "c", "a"])])
def test_only_the_fullest_are_told(limit: int, shown: list[str]) -> None:
    registry = CollectorRegistry()
    remaining = {"a": 90.0, "b": 10.0, "c": 50.0}
    budgets = [
        (LimitRule(f"tenant:{name}:tokens", "tokens", "tenant", 100, 3600.0), standing(left))
        for name, left in remaining.items()
    ]
    BudgetMetrics(registry, lambda: budgets, series_limit=limit)
    assert [owner for _, owner, _ in samples(registry)] == shown


def test_a_budget_whose_state_is_not_known_is_left_out() -> None:
    registry = CollectorRegistry()
    BudgetMetrics(registry, lambda: [(DAY, standing(0, is_degraded=True))], series_limit=10)
    assert samples(registry) == {}


def standing(left: float, *, is_degraded: bool = False) -> Standing:
    return Standing("", "tokens", 100, left, 3600.0, 60.0, is_degraded)
