"""Gateway and workers: what each process needs, and whether it reads its files and reaches its Redis."""

from __future__ import annotations

from observability.dashboards import variables
from observability.dashboards.layout import Page, Row
from observability.dashboards.panels import (
    BYTES,
    CORES,
    COUNT,
    PER_S,
    RATE,
    RATIO,
    SECONDS,
    Query,
    limited,
    lines,
    or_one_zero,
    quantiles,
    rows,
)
from observability.dashboards.variables import OF_POD

UP = f"up{{{OF_POD}}}"
GATEWAYS = 'count(up{job="gateway"})'
HOSTS = "Of hosts of several models; nothing where every worker has one."
RELOADED = ("registry", "keys", "tenants", "issuer_keys")


def processes() -> Page:
    """The dashboard of the processes."""
    return Page(
        uid="mesh-processes",
        title="Gateway and workers",
        description="CPU, memory, open files and event-loop lag; configuration files, Redis, certificates.",
        variables=[variables.JOB, variables.POD],
        rows=[_processes(), _scrapes(), _files(), _redis(), _hosts()],
    )


def _processes() -> Row:
    started = f"changes(process_start_time_seconds{{{OF_POD}}}[$__range])"
    return Row(
        "Processes",
        [
            lines(
                "CPU",
                "Cores that are used.",
                CORES,
                Query(f"rate(process_cpu_seconds_total{{{OF_POD}}}[{RATE}])", "{{pod}}"),
            ),
            lines(
                "Memory", "Resident.", BYTES, Query(f"process_resident_memory_bytes{{{OF_POD}}}", "{{pod}}")
            ),
            limited(
                "Event-loop lag",
                "How late a timer runs: what blocks the loop delays every call.",
                SECONDS,
                0.05,
                *quantiles("mesh_event_loop_lag_seconds", "pod", OF_POD),
            ),
            limited(
                "Open files and connections",
                "Share of the process's limit.",
                RATIO,
                0.8,
                Query(f"process_open_fds{{{OF_POD}}} / process_max_fds{{{OF_POD}}}", "{{pod}}"),
            ),
            lines("Restarts", "In the range of time shown.", COUNT, Query(started, "{{pod}}")),
            lines(
                "In flight",
                "Calls that each process works on.",
                COUNT,
                Query(f"sum by (pod) (mesh_gateway_in_flight{{{OF_POD}}})", "{{pod}}"),
                Query(f"sum by (pod) (mesh_bridge_in_flight{{{OF_POD}}})", "{{pod}}"),
                Query(f"sum by (pod) (mesh_worker_in_flight{{{OF_POD}}})", "{{pod}}"),
            ),
        ],
    )


def _scrapes() -> Row:
    return Row(
        "Scrapes",
        [
            rows(
                "Targets",
                "1 if it answered the last scrape.",
                COUNT,
                Query(f"min by (job, pod) ({UP})", "Up"),
                per_row=3,
            ),
            lines(
                "Duration of a scrape",
                "Of /metrics.",
                SECONDS,
                Query(f"scrape_duration_seconds{{{OF_POD}}}", "{{pod}}"),
            ),
            lines(
                "Samples of a scrape",
                "Series that a process has.",
                COUNT,
                Query(f"scrape_samples_scraped{{{OF_POD}}}", "{{pod}}"),
            ),
        ],
    )


def _files() -> Row:
    issuers = "min by (pod) (mesh_gateway_issuer_keys_last_reload_successful)"
    gateways = 'sum by (pod) (up{job="gateway"})'
    keys = "max by (issuer) (mesh_gateway_issuer_keys)"
    certificates = "min by (pod, certificate) (mesh_gateway_certificate_expiry_timestamp_seconds) - time()"
    return Row(
        "Files and certificates",
        [
            rows(
                "Last reload succeeded",
                "1 if the file that is there applies; 0 if the one before it still does.",
                COUNT,
                Query("min by (pod) (mesh_gateway_registry_last_reload_successful)", "Models"),
                Query("min by (pod) (mesh_gateway_keys_last_reload_successful)", "Keys"),
                Query("min by (pod) (mesh_gateway_tenants_last_reload_successful)", "Tenants"),
                Query(f"{issuers} or {gateways}", "Issuers"),
            ),
            lines(
                "Reloads",
                "Of each file after a change, and of issuers' public keys, by result.",
                PER_S,
                *(
                    Query(or_one_zero(_reloads(kind), GATEWAYS), f"{kind} {{{{result}}}}")
                    for kind in RELOADED
                ),
            ),
            lines(
                "Public keys of issuers",
                "With which tokens are verified.",
                COUNT,
                Query(or_one_zero(keys, GATEWAYS), "{{issuer}}"),
            ),
            rows(
                "Certificates",
                "How long each is still valid.",
                SECONDS,
                Query(certificates, "Left"),
            ),
        ],
    )


def _redis() -> Row:
    memory = "redis_memory_used_bytes / (redis_memory_max_bytes > 0)"
    calls = f"sum by (result) (rate(mesh_gateway_ledger_calls_total[{RATE}]))"
    return Row(
        "Redis",
        [
            lines(
                "Redis answers",
                "1 if shared limits, and canaries, can be kept.",
                COUNT,
                Query("mesh_gateway_ledger_up", "{{pod}} limits"),
                Query("mesh_gateway_canary_store_up", "{{pod}} canaries"),
            ),
            limited(
                "Memory of Redis",
                "Share of its limit, as its exporter tells; 0 where there is none.",
                RATIO,
                0.9,
                Query(or_one_zero(memory, GATEWAYS), "{{pod}}"),
            ),
            lines(
                "Exchanges with Redis",
                "Of the shared limits, by result.",
                PER_S,
                Query(or_one_zero(calls, GATEWAYS), "{{result}}"),
            ),
        ],
    )


def _reloads(kind: str) -> str:
    return f"sum by (result) (rate(mesh_gateway_{kind}_reloads_total[{RATE}]))"


def _hosts() -> Row:
    buckets = f"sum by (model, le) (rate(mesh_host_load_seconds_bucket[{RATE}]))"
    return Row(
        "Hosts of several models",
        [
            lines(
                "Models by phase",
                HOSTS,
                COUNT,
                Query(or_one_zero("sum by (phase) (mesh_host_model_phase)", GATEWAYS), "{{phase}}"),
            ),
            lines(
                "Memory",
                "Of the workers of loaded models.",
                BYTES,
                Query(or_one_zero("sum by (model) (mesh_host_resident_bytes)", GATEWAYS), "{{model}}"),
            ),
            lines(
                "Calls",
                "That wait for a model to load, and that are answered.",
                COUNT,
                Query(or_one_zero("sum by (model) (mesh_host_waiting)", GATEWAYS), "{{model}} waiting"),
                Query(or_one_zero("sum by (model) (mesh_host_in_flight)", GATEWAYS), "{{model}} in flight"),
            ),
            lines(
                "Loads and unloads",
                "By how loads ended, and why models left.",
                PER_S,
                Query(or_one_zero(_host_rate("loads", "outcome"), GATEWAYS), "loaded: {{outcome}}"),
                Query(or_one_zero(_host_rate("unloads", "reason"), GATEWAYS), "left: {{reason}}"),
            ),
            lines(
                "Duration of a load",
                "Median, from the start of a worker to its first answer.",
                SECONDS,
                Query(or_one_zero(f"histogram_quantile(0.5, {buckets})", GATEWAYS), "{{model}}"),
            ),
        ],
    )


def _host_rate(kind: str, by: str) -> str:
    return f"sum by ({by}) (rate(mesh_host_{kind}_total[{RATE}]))"
