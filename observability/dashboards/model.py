"""Model: how one model, or a few, answer, and what keeps them from it."""

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
    or_zero,
    quantiles,
    rows,
)
from observability.dashboards.variables import CALLS, OF_MODEL

MODELS = f"sum by (model) (mesh_gateway_capacity{{{OF_MODEL}}})"
"""A series for each model that is chosen."""


def model() -> Page:
    """The dashboard of a model."""
    return Page(
        uid="mesh-model",
        title="Model",
        description="Latency to the first and the next token, batches, KV cache, tokens, queue and replicas.",
        variables=[variables.MODEL],
        rows=[_calls(), _generation(), _engine(), _recovery(), _steering(), _response_cache()],
    )


def _calls() -> Row:
    codes = f"sum by (code) (rate(mesh_gateway_requests_total{{{CALLS}}}[{RATE}]))"
    depth = f"sum by (priority) (mesh_gateway_queue_depth{{{OF_MODEL}}})"
    protocols = f"sum by (protocol, code) (rate(mesh_worker_requests_total{{{OF_MODEL}}}[{RATE}]))"
    wait = quantiles("mesh_gateway_queue_wait_seconds", "model", OF_MODEL)
    return Row(
        "Calls",
        [
            areas("Rate", "Calls that ended, by gRPC code.", PER_S, Query(codes, "{{code}}")),
            lines(
                "Duration",
                "From arrival at the gateway to the end.",
                SECONDS,
                *quantiles("mesh_gateway_request_seconds", "method", CALLS),
            ),
            lines(
                "In flight",
                "At the gateways, and at the workers.",
                COUNT,
                Query(f"sum by (model) (mesh_gateway_in_flight{{{OF_MODEL}}})", "{{model}} gateway"),
                Query(f"sum by (model) (mesh_worker_in_flight{{{OF_MODEL}}})", "{{model}} worker"),
            ),
            areas("Waiting", "Calls in the gateways' queue, by class.", COUNT, Query(depth, "{{priority}}")),
            lines(
                "Wait",
                "Of the calls that could not start at once.",
                SECONDS,
                *(Query(or_zero(one.expr, MODELS), one.legend) for one in wait),
            ),
            areas(
                "Refused by the queue",
                "By reason: full, displaced by a higher class, or too late to be worth it.",
                PER_S,
                _rare("mesh_gateway_queue_refusals_total", "reason"),
            ),
            areas(
                "Rate at the workers",
                "Requests that ended, by protocol and gRPC code; copies for shadows are among them.",
                PER_S,
                Query(protocols, "{{protocol}} {{code}}"),
                per_row=2,
            ),
            lines(
                "Duration at the workers",
                "From arrival at the worker to the end of the answer.",
                SECONDS,
                *quantiles("mesh_worker_request_seconds", "protocol", OF_MODEL),
                per_row=2,
            ),
        ],
    )


def _generation() -> Row:
    cached = f'sum by (model) (rate(mesh_worker_tokens_total{{{OF_MODEL},kind="cached"}}[{RATE}]))'
    prompt = f'sum by (model) (rate(mesh_worker_tokens_total{{{OF_MODEL},kind="prompt"}}[{RATE}]))'
    tokens = f"sum by (model, kind) (rate(mesh_worker_tokens_total{{{OF_MODEL}}}[{RATE}]))"
    return Row(
        "Generation",
        [
            lines(
                "Time to first token",
                "At the worker, from arrival; the queue of the gateway comes before it.",
                SECONDS,
                *quantiles("mesh_worker_time_to_first_token_seconds", "model", OF_MODEL),
            ),
            lines(
                "Time per output token",
                "Mean of each answer after its first token.",
                SECONDS,
                *quantiles("mesh_worker_time_per_output_token_seconds", "model", OF_MODEL),
            ),
            areas("Tokens", "Of the workers, by kind.", TOKENS_PER_S, Query(tokens, "{{model}} {{kind}}")),
            limited(
                "KV cache",
                "Share in use, of each replica. Near 1, prompts wait although slots are free.",
                RATIO,
                0.9,
                Query(f"mesh_worker_kv_cache_usage_ratio{{{OF_MODEL}}}", "{{model}} {{pod}}"),
            ),
            lines(
                "Prompt tokens from the cache",
                "Share that needed no computing.",
                RATIO,
                Query(f"{cached} / ({prompt} > 0)", "{{model}}"),
            ),
            areas(
                "Replica by prompt",
                "Choices by the beginning of the prompt: its own replica, or another as that is busy.",
                PER_S,
                _rare("mesh_gateway_prefix_picks_total", "result"),
            ),
        ],
    )


def _engine() -> Row:
    total = f"mesh_worker_batch_rows_sum{{{OF_MODEL}}}"
    count = f"mesh_worker_batch_rows_count{{{OF_MODEL}}}"
    mean = f"sum by (model) (rate({total}[{RATE}])) / (sum by (model) (rate({count}[{RATE}])) > 0)"
    return Row(
        "Engine",
        [
            lines(
                "Batch",
                "Rows that were computed together.",
                COUNT,
                Query(mean, "{{model}} mean"),
                *quantiles("mesh_worker_batch_rows", "model", OF_MODEL),
            ),
            lines(
                "Slots",
                "Requests at work, and how many fit.",
                COUNT,
                Query(f"sum by (model) (mesh_worker_running{{{OF_MODEL}}})", "{{model}} running"),
                Query(f"sum by (model) (mesh_worker_slots{{{OF_MODEL}}})", "{{model}} slots"),
            ),
            lines(
                "Utilization",
                "Share of the engine at work.",
                RATIO,
                Query(f"mesh_worker_utilization_ratio{{{OF_MODEL}}}", "{{model}} {{pod}}"),
            ),
            lines(
                "Waiting for the engine",
                "Requests that a worker took and did not begin.",
                COUNT,
                Query(f"mesh_worker_queue_depth{{{OF_MODEL}}}", "{{model}} {{pod}}"),
            ),
            lines(
                "Wait for the engine",
                "Of the requests that a worker answered.",
                SECONDS,
                *quantiles("mesh_worker_queue_wait_seconds", "model", OF_MODEL),
            ),
            lines(
                "Given up",
                "Too late: dropped before any work, or expired during it.",
                PER_S,
                _rare("mesh_worker_queue_drops_total", "model", " dropped"),
                _rare("mesh_worker_expired_total", "model", " expired"),
            ),
        ],
    )


def _recovery() -> Row:
    return Row(
        "Recovery",
        [
            lines(
                "Ready",
                "1 for each replica that takes calls.",
                COUNT,
                Query(
                    f"max by (model, endpoint) (mesh_gateway_endpoint_ready{{{OF_MODEL}}})",
                    "{{model}} {{endpoint}}",
                ),
            ),
            lines(
                "Retries",
                "Attempts after the first.",
                PER_S,
                _rare("mesh_gateway_retries_total", "model"),
            ),
            lines(
                "Ejections",
                "Replicas left out for a while.",
                PER_S,
                _rare("mesh_gateway_ejections_total", "model"),
            ),
            lines(
                "Silent replicas",
                "Attempts given up, by what was awaited.",
                PER_S,
                _rare("mesh_gateway_silent_attempts_total", "awaited"),
            ),
            lines(
                "Broken streams",
                "Resumed on another replica, or ended.",
                PER_S,
                _rare("mesh_gateway_broken_streams_total", "result"),
            ),
        ],
    )


def _steering() -> Row:
    phase = f"max by (model, phase) (mesh_gateway_canary_phase{{{OF_MODEL}}} == 1)"
    weight = f"max by (model) (mesh_gateway_canary_weight{{{OF_MODEL}}}) / 100"
    difference = quantiles("mesh_gateway_shadow_difference", "measure", OF_MODEL)
    return Row(
        "Canary and shadow",
        [
            lines("Canary", "Share of the traffic.", RATIO, Query(or_zero(weight, MODELS), "{{model}}")),
            rows(
                "Phase of the canary",
                "Of each model that has one.",
                COUNT,
                Query(or_one_zero(phase, MODELS), "Is in it"),
                per_row=3,
            ),
            areas(
                "Canary calls",
                "That say something of a version, by side and result.",
                PER_S,
                _rare("mesh_gateway_canary_requests_total", "side, result"),
            ),
            areas(
                "Shadow calls",
                "By what became of the copy.",
                PER_S,
                _rare("mesh_gateway_shadow_calls_total", "result"),
            ),
            lines(
                "Shadow difference",
                "From the caller's answer, by measure.",
                COUNT,
                *(Query(or_one_zero(one.expr, MODELS), one.legend) for one in difference),
            ),
        ],
    )


def _response_cache() -> Row:
    answers = f"sum by (model) (mesh_gateway_response_cache_answers{{{OF_MODEL}}})"
    kept = f"sum by (model) (mesh_gateway_response_cache_bytes{{{OF_MODEL}}})"
    hits = (
        f'sum by (model) (rate(mesh_gateway_response_cache_lookups_total{{{OF_MODEL},result="hit"}}[{RATE}]))'
    )
    lookups = f"sum by (model) (rate(mesh_gateway_response_cache_lookups_total{{{OF_MODEL}}}[{RATE}]))"
    return Row(
        "Response cache",
        [
            lines(
                "Hits",
                "Share of lookups that found an answer.",
                RATIO,
                Query(or_zero(f"{hits} / ({lookups} > 0)", MODELS), "{{model}}"),
            ),
            areas(
                "Kept answers", "Memory of the gateways.", BYTES, Query(or_zero(kept, MODELS), "{{model}}")
            ),
            lines(
                "Number of kept answers",
                "In all gateways.",
                COUNT,
                Query(or_zero(answers, MODELS), "{{model}}"),
            ),
            areas(
                "Dropped answers",
                "Evicted for lack of memory, or expired.",
                PER_S,
                _rare("mesh_gateway_response_cache_evictions_total", "reason"),
            ),
        ],
    )


def _rare(metric: str, by: str, what: str = "") -> Query:
    """The rate of a counter that has no series before its first event."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", ")) + what
    zero = or_zero if by == "model" else or_one_zero
    return Query(zero(f"sum by ({by}) (rate({metric}{{{OF_MODEL}}}[{RATE}]))", MODELS), legend)
