"""The rows of `mesh top`: for each model, replica or tenant, from gateways and workers.

Pure: from what became of the pages to numbers.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

from mesh_cli.top.change import Change, Reading
from mesh_cli.top.choices import Grouping
from mesh_cli.top.quantile import histogram_quantile
from mesh_cli.top.sums import Key, buckets, counted, largest, summed
from mesh_cli.top.traffic import GATEWAY, TENANT, WORKER, Row, measured, traffic_rows

UNKNOWN_MODEL = "unknown"


def rows_of(readings: Sequence[Reading], grouping: Grouping) -> list[Row]:
    """The rows, sorted by name."""
    if grouping is Grouping.REPLICA:
        return sorted(_replica_rows(readings), key=lambda row: (row.model, row.replica))
    changes = [reading.change for reading in readings if reading.change is not None]
    if grouping is Grouping.TENANT:
        return sorted(_tenant_rows(changes), key=lambda row: (row.tenant, row.model))
    return sorted(_model_rows(changes), key=lambda row: row.model)


def _model_rows(changes: Sequence[Change]) -> list[Row]:
    """A row for each model: as its callers see it at the gateways, or, if no gateway is read, at the workers.

    A call waits at a gateway or in a worker: the queue is both.
    """
    outside, inside = _gateway_rows(changes), _worker_rows(changes)
    return [
        _joined(outside[model], inside[model])
        if model in outside and model in inside
        else outside.get(model) or inside[model]
        for model in outside.keys() | inside.keys()
    ]


def _joined(outside: Row, inside: Row) -> Row:
    return dataclasses.replace(
        outside,
        first_token_p50_s=inside.first_token_p50_s,
        queue_depth=(outside.queue_depth or 0.0) + (inside.queue_depth or 0.0),
        kv_cache_usage_ratio=inside.kv_cache_usage_ratio,
        running=inside.running,
        slots=inside.slots,
    )


def _gateway_rows(changes: Sequence[Change]) -> dict[str, Row]:
    """By model; calls of no model of the registry have a row, "unknown", while there are any."""
    told = _of_kind(changes, "gateway")
    pages = [change.page.families for change in told]
    endpoints: defaultdict[Key, list[float]] = defaultdict(list)
    # Every gateway tells of every replica: one that any of them reaches counts once.
    for (model, _), is_ready in largest(pages, "mesh_gateway_endpoint_ready", ("model", "endpoint")).items():
        endpoints[model,].append(is_ready)
    rows = {
        key[0]: dataclasses.replace(
            row,
            ready=round(sum(endpoints[key])) if key in endpoints else None,
            replicas=len(endpoints[key]) if key in endpoints else None,
        )
        for key, row in traffic_rows(told, GATEWAY, ("model",), also=endpoints).items()
    }
    unknown = rows.get(UNKNOWN_MODEL)
    if unknown is not None and not (unknown.requests_per_s or unknown.in_flight):
        del rows[UNKNOWN_MODEL]
    return rows


def _worker_rows(changes: Sequence[Change]) -> dict[str, Row]:
    """By model."""
    told, by = _of_kind(changes, "worker"), ("model",)
    pages = [change.page.families for change in told]
    times = buckets(measured(told), "mesh_worker_time_to_first_token_seconds_bucket", by)
    kv_cache = largest(pages, "mesh_worker_kv_cache_usage_ratio", by)
    running, slots = (summed(pages, f"mesh_worker_{name}", by) for name in ("running", "slots"))
    ready = summed(pages, "mesh_worker_model_ready", by)
    replicas = counted(pages, "mesh_worker_model_ready", by)
    return {
        key[0]: dataclasses.replace(
            row,
            first_token_p50_s=histogram_quantile(0.5, times.get(key, {})),
            kv_cache_usage_ratio=kv_cache.get(key),
            running=running.get(key),
            slots=slots.get(key),
            ready=round(ready.get(key, 0.0)),
            replicas=replicas.get(key, 0),
        )
        for key, row in traffic_rows(told, WORKER, by, also=ready).items()
    }


def _replica_rows(readings: Sequence[Reading]) -> list[Row]:
    """A row for each worker, also for one that cannot be read."""
    rows: list[Row] = []
    for reading in readings:
        target, change = reading.target, reading.change
        if target.kind == "worker" and change is None:
            rows.append(Row(target.model, target.name, ready=0, replicas=1))
        elif target.kind == "worker" and change is not None:
            found = _worker_rows([change]).values()
            rows += [dataclasses.replace(row, replica=target.name) for row in found]
    return rows


def _tenant_rows(changes: Sequence[Change]) -> list[Row]:
    """A row for each tenant and model of which the gateways have counted a call."""
    found = traffic_rows(_of_kind(changes, "gateway"), TENANT, ("model", "tenant"))
    return [dataclasses.replace(row, tenant=key[1]) for key, row in found.items()]


def _of_kind(changes: Sequence[Change], kind: str) -> list[Change]:
    return [change for change in changes if change.page.kind == kind]
