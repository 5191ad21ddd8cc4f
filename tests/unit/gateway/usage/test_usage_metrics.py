from __future__ import annotations

import json

from prometheus_client import CollectorRegistry

from gateway.usage.metrics import UsageMetrics
from gateway.usage.record import UsageRecord

RECORD = UsageRecord(
    time_s=1_700_000_000.1239,
    request_id="call-1",
    tenant="acme",
    key_id="k1",
    model="chat",
    version="2",
    method="Infer",
    prompt_tokens=10,
    completion_tokens=5,
    cached_tokens=4,
    response_cached=False,
    duration_s=0.12345678,
    outcome="OK",
)


def tokens(registry: CollectorRegistry, tenant: str, kind: str) -> float | None:
    labels = {"tenant": tenant, "model": "chat", "type": kind}
    return registry.get_sample_value("mesh_gateway_tokens_total", labels)


def requests(registry: CollectorRegistry, tenant: str, outcome: str = "OK") -> float | None:
    labels = {"tenant": tenant, "model": "chat", "outcome": outcome}
    return registry.get_sample_value("mesh_gateway_tenant_requests_total", labels)


def test_a_record_is_one_line_of_json() -> None:
    line = RECORD._replace(request_id='a"\n\u2028b').line()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.123Z",
        "request_id": 'a"\n\u2028b',
        "tenant": "acme",
        "key_id": "k1",
        "model": "chat",
        "version": "2",
        "method": "Infer",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "cached_tokens": 4,
        "response_cached": False,
        "duration_s": 0.123457,
        "outcome": "OK",
    }


def test_tokens_and_calls_are_counted_by_tenant() -> None:
    registry = CollectorRegistry()
    metrics = UsageMetrics(registry, 10)
    metrics.count(RECORD)
    metrics.count(RECORD._replace(outcome="CANCELLED", completion_tokens=1))
    assert (tokens(registry, "acme", "prompt"), tokens(registry, "acme", "completion")) == (20, 6)
    assert tokens(registry, "acme", "cached") == 8
    assert (requests(registry, "acme"), requests(registry, "acme", "CANCELLED")) == (1, 1)


def test_the_time_of_calls_adds_up_by_tenant_and_model() -> None:
    registry = CollectorRegistry()
    metrics = UsageMetrics(registry, 1)
    for tenant in ("acme", "acme", "second", "third"):
        metrics.count(RECORD._replace(tenant=tenant, duration_s=0.5))
    name = "mesh_gateway_tenant_request_seconds_total"
    of_tenant = {
        tenant: registry.get_sample_value(name, {"tenant": tenant, "model": "chat"})
        for tenant in ("acme", "second", "other")
    }
    assert of_tenant == {"acme": 1.0, "second": None, "other": 1.0}
    metrics.keep_only(())
    assert registry.get_sample_value(name, {"tenant": "acme", "model": "chat"}) is None


def test_tokens_that_no_model_made_are_counted_apart() -> None:
    registry = CollectorRegistry()
    UsageMetrics(registry, 10).count(RECORD._replace(response_cached=True))
    assert tokens(registry, "acme", "response_cached") == 15
    assert tokens(registry, "acme", "prompt") is None
    assert requests(registry, "acme") == 1


def test_further_tenants_share_one_label() -> None:
    registry = CollectorRegistry()
    metrics = UsageMetrics(registry, 2)
    for number in range(1000):
        metrics.count(RECORD._replace(tenant=f"tenant-{number}"))
    metrics.count(RECORD._replace(tenant="tenant-1"))
    assert requests(registry, "tenant-0") == 1
    assert requests(registry, "tenant-1") == 2
    assert requests(registry, "tenant-2") is None
    assert requests(registry, "other") == 998


def test_pairs_of_tenant_and_model_have_series_of_their_own_while_there_is_room() -> None:
    registry = CollectorRegistry()
    metrics = UsageMetrics(registry, 50, pair_limit=100)
    for model in range(1000):
        for tenant in range(60):
            metrics.count(RECORD._replace(tenant=f"tenant-{tenant}", model=f"model-{model}"))
    samples = [one for family in registry.collect() for one in family.samples]
    pairs = {(one.labels["tenant"], one.labels["model"]) for one in samples if "tenant" in one.labels}
    assert len(pairs) == 100 + 51  # and for each tenant, and for the other ones, a model `other`
    name = "mesh_gateway_tenant_requests_total"
    assert sum(one.value for one in samples if one.name == name) == 60_000


def test_models_that_are_no_more_make_room_for_other_pairs() -> None:
    registry = CollectorRegistry()
    metrics = UsageMetrics(registry, 10, pair_limit=1)
    metrics.count(RECORD._replace(model="old"))
    metrics.count(RECORD)
    assert requests(registry, "acme") is None
    metrics.keep_only({"chat"})
    metrics.count(RECORD)
    assert requests(registry, "acme") == 1
    name, labels = "mesh_gateway_tenant_requests_total", {"tenant": "acme", "outcome": "OK"}
    assert registry.get_sample_value(name, {**labels, "model": "other"}) == 1
    assert registry.get_sample_value(name, {**labels, "model": "old"}) is None


def test_without_room_for_tenants_all_are_others() -> None:
    registry = CollectorRegistry()
    UsageMetrics(registry, 0).count(RECORD)
    assert requests(registry, "other") == 1


def test_a_model_that_is_no_more_leaves_no_series() -> None:
    registry = CollectorRegistry()
    metrics = UsageMetrics(registry, 10)
    metrics.count(RECORD)
    metrics.count(RECORD._replace(model="minilm"))
    metrics.keep_only({"minilm"})
    assert requests(registry, "acme") is None
    assert tokens(registry, "acme", "prompt") is None
    metrics.count(RECORD)
    assert requests(registry, "acme") == 1
