"""Mesh overview: is the mesh well, and if not, which model."""

from __future__ import annotations

from observability.dashboards import variables
from observability.dashboards.layout import Page, Row
from observability.dashboards.panels import (
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
    number,
    or_one_zero,
    or_zero,
    quantiles,
    rows,
)
from observability.dashboards.variables import CALLS, OF_MODEL
from observability.rules.objectives import BURN_WINDOWS, OBJECTIVES

SHOWN = 20
"""Series of a panel: those of the models with the most."""


def overview() -> Page:
    """The dashboard that one begins with."""
    return Page(
        uid="mesh-overview",
        title="Mesh overview",
        description="Rate, errors and duration of every model, and how fast its objectives are used up.",
        variables=[variables.MODEL],
        rows=[_now(), _models(), _objectives(), _room(), _bridge()],
    )


def _now() -> Row:
    buckets = f"sum by (le) (rate(mesh_gateway_request_seconds_bucket{{{CALLS}}}[{RATE}]))"
    down = f"count(max by (model) (mesh_gateway_endpoint_ready{{{OF_MODEL}}}) == 0) or vector(0)"
    alerts = 'count(ALERTS{alertname=~"Mesh.+",alertstate="firing"}) or vector(0)'
    errors = f"sum(model:request_errors:rate5m{{{OF_MODEL}}}) / sum(model:requests:rate5m{{{OF_MODEL}}} > 0)"
    return Row(
        "Now",
        [
            number("Calls", "Inference calls that ended.", PER_S, _calls(""), red_from=1e9),
            number(
                "Failing", "Share of the mesh's faults in the last 5 minutes.", RATIO, errors, red_from=0.001
            ),
            number(
                "Slowest 1 %",
                "99th percentile.",
                SECONDS,
                f"histogram_quantile(0.99, {buckets})",
                red_from=10,
            ),
            number("Tokens", "Read and written.", TOKENS_PER_S, f"sum({_tokens('type')})", red_from=1e9),
            number("Models down", "Models without a ready replica.", COUNT, down, red_from=1),
            number("Alerts", "Alerts that fire now.", COUNT, alerts, red_from=1),
        ],
    )


def _models() -> Row:
    failing = f"model:request_errors:ratio_rate5m{{{OF_MODEL}}}"
    duration = quantiles("mesh_gateway_request_seconds", "model", CALLS)
    return Row(
        "Each model",
        [
            areas(
                "Rate",
                f"Calls that ended; the {SHOWN} models with the most.",
                PER_S,
                Query(f"topk({SHOWN}, {_calls('by (model) ')})", "{{model}}"),
            ),
            limited(
                "Errors",
                "Share of calls that failed by the mesh's fault or were refused for lack of room.",
                RATIO,
                0.001,
                Query(f"topk({SHOWN}, {failing})", "{{model}}"),
            ),
            lines("Duration", "From a call's arrival to its end.", SECONDS, *duration),
        ],
    )


def _objectives() -> Row:
    slowest = BURN_WINDOWS[-1].long
    burns = [
        limited(
            f"Burn rate: {objective.name}",
            f"1 uses up the budget of {objective.budget:.1%} in exactly 30 days; an hour of "
            f"{BURN_WINDOWS[0].factor:g} wakes somebody up.",
            COUNT,
            1,
            *(
                Query(
                    f"topk({SHOWN}, {objective.ratio(window)}{{{OF_MODEL}}} / {objective.budget:g})",
                    f"{{{{model}}}} {window}",
                )
                for window in ("1h", "6h")
            ),
        )
        for objective in OBJECTIVES
    ]
    kept = [
        Query(f"1 - {objective.ratio(slowest)}{{{OF_MODEL}}}", objective.name.title())
        for objective in OBJECTIVES
    ]
    table = rows(f"Kept in {slowest}", "Share of good calls, of each model.", RATIO, *kept, per_row=3)
    return Row("Objectives", [*burns, table])


def _room() -> Row:
    depth = f"sum by (model) (mesh_gateway_queue_depth{{{OF_MODEL}}})"
    ready = f"max by (model, endpoint) (mesh_gateway_endpoint_ready{{{OF_MODEL}}})"
    codes = f'sum by (code) (rate(mesh_gateway_requests_total{{{CALLS},code!="OK"}}[{RATE}]))'
    every = f"sum by (code) (rate(mesh_gateway_requests_total{{{CALLS}}}[{RATE}]))"
    return Row(
        "Room",
        [
            lines("Waiting", "Calls in the queues.", COUNT, Query(f"topk({SHOWN}, {depth})", "{{model}}")),
            areas("Refused and failed", "By gRPC code.", PER_S, Query(or_zero(codes, every), "{{code}}")),
            areas(
                "Tokens", "By type.", TOKENS_PER_S, Query(f"sum by (type) ({_tokens('type')})", "{{type}}")
            ),
            rows(
                "Replicas",
                "Ready replicas as the gateways see them, and the calls that these work on at once.",
                COUNT,
                Query(f"sum by (model) ({ready})", "Ready"),
                Query(
                    f"max by (model) (sum by (model, instance) (mesh_gateway_capacity{{{OF_MODEL}}}))",
                    "At once",
                ),
            ),
            lines(
                "In flight",
                "Calls that the gateways carry.",
                COUNT,
                Query(f"topk({SHOWN}, sum by (model) (mesh_gateway_in_flight{{{OF_MODEL}}}))", "{{model}}"),
                per_row=2,
            ),
        ],
    )


def _bridge() -> Row:
    codes = f"sum by (code) (rate(mesh_bridge_requests_total[{RATE}]))"
    broken = f"sum by (code) (rate(mesh_bridge_broken_streams_total[{RATE}]))"
    return Row(
        "REST",
        [
            areas("Requests", "Answered by the bridges, by HTTP status.", PER_S, Query(codes, "{{code}}")),
            lines("Duration", "By route.", SECONDS, *quantiles("mesh_bridge_request_seconds", "route", "")),
            lines(
                "First event",
                "Of streamed answers: from the head of the request.",
                SECONDS,
                *quantiles("mesh_bridge_first_event_seconds", "route", ""),
            ),
            areas(
                "Broken streams",
                "That ended with an error event, by its code.",
                PER_S,
                Query(or_one_zero(broken, 'count(up{job="rest-bridge"})'), "{{code}}"),
            ),
        ],
    )


def _calls(by: str) -> str:
    return f"sum {by}(rate(mesh_gateway_requests_total{{{CALLS}}}[{RATE}]))"


def _tokens(by: str) -> str:
    return f"sum by ({by}) (rate(mesh_gateway_tokens_total{{{OF_MODEL}}}[{RATE}]))"
