"""Series that dashboards and burn rates read, computed beforehand for each model."""

from __future__ import annotations

from collections.abc import Iterator

from observability.rules.objectives import FAULTS, INFERENCE, OBJECTIVES, SLOW_S, UNARY, WINDOWS_S, Objective
from observability.rules.rule import Group, Recording
from observability.rules.time_scale import TimeScale


def recording_groups(scale: TimeScale) -> list[Group]:
    """All recording rules."""
    window = scale.window(WINDOWS_S["5m"])
    ratios = [rule for objective in OBJECTIVES for rule in _ratios(objective, scale)]
    return [
        Group("mesh_requests", 30, [*_requests(window), *_latencies(window), *_tokens(window)]),
        Group("mesh_objectives", 30, ratios),
    ]


def _requests(window: str) -> Iterator[Recording]:
    yield Recording(
        "model:requests:rate5m",
        f"sum by (model) (rate(mesh_gateway_requests_total{{{INFERENCE}}}[{window}]))",
    )
    yield Recording(
        "model:request_errors:rate5m",
        f"""
        sum by (model) (
          rate(mesh_gateway_requests_total{{{INFERENCE},{FAULTS}}}[{window}])
          or rate(mesh_gateway_queue_refusals_total{{priority!="bulk"}}[{window}])
        )
        or 0 * model:requests:rate5m
        """,
    )


def _latencies(window: str) -> Iterator[Recording]:
    first_token, request = "mesh_worker_time_to_first_token_seconds", "mesh_gateway_request_seconds"
    # A model that generates is judged by its first token, any other by its whole answer: the left side wins.
    yield Recording(
        "model:timed_requests:rate5m",
        f"""
        sum by (model) (rate({first_token}_count[{window}]))
        or sum by (model) (rate({request}_count{{{UNARY}}}[{window}]))
        """,
    )
    yield Recording(
        "model:slow_requests:rate5m",
        f"""
        (
          sum by (model) (rate({first_token}_count[{window}]))
          - sum by (model) (rate({first_token}_bucket{{le="{SLOW_S}"}}[{window}]))
        )
        or (
          sum by (model) (rate({request}_count{{{UNARY}}}[{window}]))
          - sum by (model) (rate({request}_bucket{{{UNARY},le="{SLOW_S}"}}[{window}]))
        )
        """,
    )
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        buckets = f"sum by (model, le) (rate({request}_bucket{{{INFERENCE}}}[{window}]))"
        yield Recording(f"model:request_seconds:{name}_rate5m", f"histogram_quantile({share}, {buckets})")


def _tokens(window: str) -> Iterator[Recording]:
    yield Recording(
        "tenant_model_type:tokens:rate5m",
        f"sum by (tenant, model, type) (rate(mesh_gateway_tokens_total[{window}]))",
    )


def _ratios(objective: Objective, scale: TimeScale) -> Iterator[Recording]:
    bad, all_calls = f"{objective.bad}:rate5m", f"{objective.all}:rate5m"
    yield Recording(objective.ratio("5m"), f"{bad} / ({all_calls} > 0)")
    # Long windows are averages of the short one, so that they read one series a model instead of hundreds.
    for name, seconds in list(WINDOWS_S.items())[1:]:
        window = scale.window(seconds)
        yield Recording(
            objective.ratio(name),
            f"avg_over_time({bad}[{window}]) / (avg_over_time({all_calls}[{window}]) > 0)",
        )
