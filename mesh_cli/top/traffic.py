"""The calls of models, replicas and tenants, as one kind of process tells of them.

Pure: from what became of the pages to numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from mesh_cli.top.change import Change
from mesh_cli.top.page import Families
from mesh_cli.top.quantile import histogram_quantile
from mesh_cli.top.sums import Key, buckets, summed

INFERENCE = frozenset({"Infer", "InferStream", "ModelInfer", "ModelStreamInfer"})
GOOD_CODES = frozenset({"OK", "CANCELLED"})
"""Codes that are no error: CANCELLED is a caller that left."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """What is known of a model, of one replica of it, or of a tenant's calls to it; None = not known.

    Times in seconds. errors: calls that ended by another code than OK and CANCELLED.
    kv_cache_usage_ratio: 0 to 1, of the fullest replica. running: requests at work in the engines,
    of as many as they have slots. ready: replicas that take calls.
    """

    model: str
    replica: str = ""
    tenant: str = ""
    requests_per_s: float | None = None
    errors_per_s: float | None = None
    p50_s: float | None = None
    p99_s: float | None = None
    first_token_p50_s: float | None = None
    in_flight: float | None = None
    queue_depth: float | None = None
    prompt_tokens_per_s: float | None = None
    completion_tokens_per_s: float | None = None
    kv_cache_usage_ratio: float | None = None
    running: float | None = None
    slots: float | None = None
    ready: int | None = None
    replicas: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """The metrics that tell of the traffic, and the labels that have code and kind of token; "" = none."""

    requests: str
    code_label: str
    tokens: str
    kind_label: str
    seconds: str = ""
    in_flight: str = ""
    queue_depth: str = ""


GATEWAY = Source(
    requests="mesh_gateway_requests_total",
    code_label="code",
    tokens="mesh_gateway_tokens_total",
    kind_label="type",
    seconds="mesh_gateway_request_seconds_bucket",
    in_flight="mesh_gateway_in_flight",
    queue_depth="mesh_gateway_queue_depth",
)
TENANT = Source(
    requests="mesh_gateway_tenant_requests_total",
    code_label="outcome",
    tokens="mesh_gateway_tokens_total",
    kind_label="type",
)
WORKER = Source(
    requests="mesh_worker_requests_total",
    code_label="code",
    tokens="mesh_worker_tokens_total",
    kind_label="kind",
    seconds="mesh_worker_request_seconds_bucket",
    in_flight="mesh_worker_in_flight",
    queue_depth="mesh_worker_queue_depth",
)


def traffic_rows(
    changes: Sequence[Change], source: Source, by: Key, also: Mapping[Key, object] | None = None
) -> dict[Key, Row]:
    """What processes of one kind tell of the calls. by: labels, `model` first. also: groups without calls."""
    pages, rates = [change.page.families for change in changes], measured(changes)
    zero = 0.0 if rates else None

    def is_call(labels: Mapping[str, str]) -> bool:
        return labels.get("method", "Infer") in INFERENCE

    def is_error(labels: Mapping[str, str]) -> bool:
        return is_call(labels) and labels.get(source.code_label) not in GOOD_CODES

    def tokens(kind: str) -> dict[Key, float]:
        return summed(rates, source.tokens, by, lambda labels: labels.get(source.kind_label) == kind)

    requests = summed(rates, source.requests, by, is_call)
    errors = summed(rates, source.requests, by, is_error)
    times = buckets(rates, source.seconds, by, is_call)
    in_flight, queued = summed(pages, source.in_flight, by), summed(pages, source.queue_depth, by)
    prompt, completion = tokens("prompt"), tokens("completion")
    keys = requests.keys() | in_flight.keys() | queued.keys() | prompt.keys() | completion.keys()
    return {
        key: Row(
            key[0],
            requests_per_s=requests.get(key, zero),
            errors_per_s=errors.get(key, zero),
            p50_s=histogram_quantile(0.5, times.get(key, {})),
            p99_s=histogram_quantile(0.99, times.get(key, {})),
            in_flight=in_flight.get(key, 0.0) if source.in_flight else None,
            queue_depth=queued.get(key, 0.0) if source.queue_depth else None,
            prompt_tokens_per_s=prompt.get(key, zero),
            completion_tokens_per_s=completion.get(key, zero),
        )
        for key in keys | (also or {}).keys()
    }


def measured(changes: Sequence[Change]) -> list[Families]:
    """The rates of the processes that have some."""
    return [change.rates for change in changes if change.rates is not None]
