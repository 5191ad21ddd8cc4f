"""Tenants: who uses how much, how near their limits, and who is refused."""

from __future__ import annotations

from observability.dashboards import variables
from observability.dashboards.layout import Page, Row
from observability.dashboards.panels import (
    BYTES,
    COUNT,
    PER_S,
    RATE,
    RATIO,
    SECONDS,
    TOKENS_PER_S,
    Query,
    areas,
    limited,
    lines,
    or_one_zero,
    rows,
)
from observability.dashboards.variables import OF_TENANT

GATEWAYS = 'count(up{job="gateway"})'


def tenants() -> Page:
    """The dashboard of who uses the mesh."""
    return Page(
        uid="mesh-tenants",
        title="Tenants",
        description="Usage, budgets and refusals. Tenants beyond the gateway's limit of series are `other`.",
        variables=[variables.TENANT, variables.MODEL],
        rows=[_usage(), _limits(), _accounts()],
    )


def _usage() -> Row:
    calls = f"sum by (tenant) (rate(mesh_gateway_tenant_requests_total{{{OF_TENANT}}}[{RATE}]))"
    not_ok = f'{OF_TENANT},outcome!="OK"'
    failed = f"sum by (tenant, outcome) (rate(mesh_gateway_tenant_requests_total{{{not_ok}}}[{RATE}]))"
    tokens = f"sum by (tenant, type) (rate(mesh_gateway_tokens_total{{{OF_TENANT}}}[{RATE}]))"
    models = f"sum by (tenant, model) (rate(mesh_gateway_tokens_total{{{OF_TENANT}}}[{RATE}]))"
    spent = f"sum by (tenant) (rate(mesh_gateway_tenant_request_seconds_total{{{OF_TENANT}}}[{RATE}]))"
    used = f"sum by (tenant) (increase(mesh_gateway_tokens_total{{{OF_TENANT}}}[$__range]))"
    asked = f"sum by (tenant) (increase(mesh_gateway_tenant_requests_total{{{OF_TENANT}}}[$__range]))"
    return Row(
        "Usage",
        [
            areas("Calls", "Admitted calls that ended.", PER_S, Query(calls, "{{tenant}}")),
            areas(
                "Failed calls",
                "Admitted, and not OK.",
                PER_S,
                Query(or_one_zero(failed, calls), "{{tenant}} {{outcome}}"),
            ),
            lines(
                "Duration",
                "Mean of a call, from its arrival to its end.",
                SECONDS,
                Query(f"{spent} / ({calls} > 0)", "{{tenant}}"),
            ),
            areas(
                "Tokens",
                "By type; cached ones are a part of the prompt.",
                TOKENS_PER_S,
                Query(tokens, "{{tenant}} {{type}}"),
            ),
            areas(
                "Tokens of each model",
                "Of all types.",
                TOKENS_PER_S,
                Query(models, "{{tenant}} {{model}}"),
            ),
            rows(
                "In the range of time shown",
                "Calls and tokens of each tenant.",
                COUNT,
                Query(asked, "Calls"),
                Query(used, "Tokens"),
                per_row=3,
            ),
        ],
    )


def _limits() -> Row:
    refused = f"sum by (kind, scope) (rate(mesh_gateway_limit_refusals_total[{RATE}]))"
    degraded = f"sum by (policy) (rate(mesh_gateway_limit_degraded_total[{RATE}]))"
    checks = f"sum by (kind, result) (rate(mesh_gateway_credential_checks_total[{RATE}]))"
    of_tenant = 'scope=~"tenant|tenant_model",owner=~"($tenant)(/.+)?"'
    budget = f"max by (owner, per) (mesh_gateway_token_budget_used_ratio{{{of_tenant}}})"
    return Row(
        "Limits and refusals",
        [
            limited(
                "Budgets",
                "Used or reserved, of each token budget.",
                RATIO,
                0.9,
                Query(budget, "{{owner}} per {{per}}"),
            ),
            areas(
                "Refused by a limit",
                "By its kind, and whether it is a key's, a tenant's or a model's.",
                PER_S,
                Query(or_one_zero(refused, GATEWAYS), "{{kind}} of {{scope}}"),
            ),
            areas(
                "Decided without Redis",
                "Calls, by what their rules say for that.",
                PER_S,
                Query(or_one_zero(degraded, GATEWAYS), "{{policy}}"),
            ),
            areas(
                "Credentials verified",
                "That were not known already, by kind and result.",
                PER_S,
                Query(or_one_zero(checks, GATEWAYS), "{{kind}} {{result}}"),
            ),
            lines(
                "Known credentials",
                "That need no second verification.",
                COUNT,
                Query("mesh_gateway_known_credentials", "{{pod}}"),
            ),
        ],
    )


def _accounts() -> Row:
    return Row(
        "Usage log",
        [
            lines(
                "Waiting",
                "Records that are not written yet.",
                BYTES,
                Query("mesh_gateway_usage_log_waiting_bytes", "{{pod}}"),
            ),
            lines(
                "Lost",
                "Records that were given up since the gateway's start.",
                COUNT,
                Query("mesh_gateway_usage_records_lost_total", "{{pod}}"),
            ),
            lines(
                "Writes succeed",
                "1 if the last write did.",
                COUNT,
                Query("mesh_gateway_usage_log_last_write_successful", "{{pod}}"),
            ),
        ],
    )
