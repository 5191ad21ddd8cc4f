"""Which limits apply to a call."""

from __future__ import annotations

from gateway.policy.facts import Caller
from gateway.policy.limits.rules import rules_of
from inference_mesh.config.limits import LimitsSpec, TokenBudgetSpec
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.config.tenants_file import Tenant

ALL = LimitsSpec(
    requests_per_second=4, burst=8, concurrency=2, tokens=TokenBudgetSpec(amount=1000, per="hour")
)
CHAT = ModelEntry(name="chat", service="chat", limits=LimitsSpec(concurrency=5))


def test_a_call_keeps_the_limits_of_its_key_its_tenant_its_tenants_use_of_the_model_and_the_model() -> None:
    tenant = Tenant(name="acme", limits=ALL, model_limits={"chat": LimitsSpec(concurrency=1)})
    names = [rule.name for rule in rules_of(Caller(key_id="abcdefgh", tenant=tenant, limits=ALL), CHAT)]
    assert names == [
        "key:abcdefgh:requests",
        "key:abcdefgh:concurrency",
        "key:abcdefgh:tokens",
        "tenant:acme:requests",
        "tenant:acme:concurrency",
        "tenant:acme:tokens",
        "tenant:acme/chat:concurrency",
        "model:chat:concurrency",
    ]


def test_a_limit_of_a_tenants_use_of_one_model_leaves_the_others_alone() -> None:
    tenant = Tenant(name="acme", model_limits={"other": ALL})
    assert [rule.scope for rule in rules_of(Caller(tenant=tenant), CHAT)] == ["model"]


def test_a_caller_without_limits_has_no_rules() -> None:
    assert rules_of(Caller(), ModelEntry(name="chat", service="chat")) == ()


def test_a_rule_says_how_long_its_burst_takes_to_come_back() -> None:
    (requests, *_) = rules_of(Caller(key_id="abcdefgh", limits=ALL), CHAT)
    assert (requests.amount, requests.interval_s, requests.window_s) == (8, 0.25, 2.0)
    assert requests.tolerance_s == 1.75


def test_two_keys_of_a_tenant_share_the_very_rules_of_the_tenant() -> None:
    tenant = Tenant(name="acme", limits=ALL)
    one, other = (rules_of(Caller(key_id=key, tenant=tenant), CHAT) for key in ("aaaaaaaa", "bbbbbbbb"))
    assert all(first is second for first, second in zip(one, other, strict=True))
