"""Alerts on causes: what is down, full, stale or about to run out."""

from __future__ import annotations

from collections.abc import Iterator

from observability.rules.rule import Alert, Group, Severity
from observability.rules.time_scale import TimeScale

MINUTE_S = 60
DAY_S = 86400

PROCESSES = "/d/mesh-processes"
MODEL = "/d/mesh-model?var-model={{ $labels.model }}"
TENANTS = "/d/mesh-tenants"

FILES = {"registry": "models.yaml", "keys": "keys.yaml", "tenants": "tenants.yaml"}
CERTIFICATE_LIMITS: tuple[tuple[str, Severity, int], ...] = (
    ("MeshCertificateExpiresSoon", "ticket", 14),
    ("MeshCertificateExpiresNow", "page", 2),
)
"""Days before the end at which each of the two alerts begins."""


def alert_groups(scale: TimeScale) -> list[Group]:
    """The alerts on causes."""
    return [
        Group("mesh_replicas", 15, list(_replicas())),
        Group("mesh_capacity", 15, list(_capacity(scale.window(5 * MINUTE_S)))),
        Group("mesh_configuration", 15, list(_configuration())),
        Group("mesh_accounts", 30, list(_accounts())),
    ]


def _replicas() -> Iterator[Alert]:
    yield Alert(
        "MeshGatewayDown",
        "page",
        'absent(up{job="gateway"} == 1)',
        MINUTE_S,
        "No gateway answers Prometheus",
        "Every call is refused, or nothing is known of it: no gateway was scraped for a minute.",
        PROCESSES,
    )
    yield Alert(
        "MeshTargetDown",
        "ticket",
        'up{job=~"gateway|rest-bridge|worker|redis|loki|alloy|tempo"} == 0',
        2 * MINUTE_S,
        "{{ $labels.job }} {{ $labels.pod }} does not answer Prometheus",
        "No /metrics from {{ $labels.instance }} for 2 minutes: it is gone, hung, or cut off.",
        PROCESSES,
    )
    yield Alert(
        "MeshWorkerDown",
        "ticket",
        "max by (model, endpoint) (mesh_gateway_endpoint_ready) == 0",
        2 * MINUTE_S,
        "A replica of {{ $labels.model }} takes no calls",
        "No gateway found {{ $labels.endpoint }} ready for 2 minutes.",
        MODEL,
    )
    yield Alert(
        "MeshModelDown",
        "page",
        """
        max by (model) (mesh_gateway_endpoint_ready) == 0
        or sum by (model) (mesh_gateway_capacity) == 0
        """,
        MINUTE_S,
        "{{ $labels.model }} has no replica that takes calls",
        "Every call of {{ $labels.model }} is answered UNAVAILABLE, or by its fallback if it has one.",
        MODEL,
    )


def _capacity(window: str) -> Iterator[Alert]:
    yield Alert(
        "MeshQueueSaturated",
        "ticket",
        # Each gateway tells the capacity of the same replicas.
        f"""
        sum by (model) (mesh_gateway_queue_depth{{priority!="bulk"}})
          > max by (model) (sum by (model, instance) (mesh_gateway_capacity))
        or sum by (model) (rate(mesh_gateway_queue_refusals_total{{priority!="bulk"}}[{window}])) > 0.01
        """,
        5 * MINUTE_S,
        "Calls of {{ $labels.model }} wait longer than its replicas can keep up with",
        "For 5 minutes more calls waited than its replicas work on at once, or some were refused; "
        "the class bulk is left out.",
        MODEL,
    )
    yield Alert(
        "MeshKvCacheExhausted",
        "ticket",
        # The mean: between the end of one answer and the next prompt the cache is empty for a moment.
        f"avg_over_time(mesh_worker_kv_cache_usage_ratio[{window}]) > 0.9",
        2 * MINUTE_S,
        "The KV cache of {{ $labels.model }} is full",
        "{{ $labels.pod }} used {{ $value | humanizePercentage }} of its KV cache in the last 5 minutes: "
        "prompts wait although slots are free.",
        MODEL,
    )


def _configuration() -> Iterator[Alert]:
    terms = [
        f'label_replace(mesh_gateway_{kind}_last_reload_successful, "file", "{file}", "", "") == 0'
        for kind, file in FILES.items()
    ]
    terms.append(
        'label_replace(mesh_gateway_issuer_keys_last_reload_successful, "file", "$1", "issuer", "(.*)") == 0'
    )
    yield Alert(
        "MeshReloadFailed",
        "ticket",
        "\nor ".join(terms),
        MINUTE_S,
        "{{ $labels.pod }} could not read {{ $labels.file }}",
        "The last good one still applies, and a change since then does not. /readyz and the log say why.",
        PROCESSES,
    )
    yield Alert(
        "MeshRedisDegraded",
        "page",
        "mesh_gateway_ledger_up == 0 or mesh_gateway_canary_store_up == 0",
        MINUTE_S,
        "{{ $labels.pod }} cannot ask Redis",
        "Shared limits are kept by each gateway alone or calls are refused, as their rules say; canaries "
        "stand still.",
        PROCESSES,
    )
    yield Alert(
        "MeshRedisDown",
        "ticket",
        "redis_up == 0",
        MINUTE_S,
        "Redis does not answer its exporter",
        "{{ $labels.pod }} runs, and the Redis beside it has not answered for a minute.",
        PROCESSES,
    )
    yield Alert(
        "MeshRedisMemoryNearLimit",
        "ticket",
        "redis_memory_used_bytes / (redis_memory_max_bytes > 0) > 0.9",
        5 * MINUTE_S,
        "Redis is nearly full",
        "{{ $labels.pod }} uses {{ $value | humanizePercentage }} of its memory; at 100 % it takes no new "
        "limit, and the gateways go on without it.",
        PROCESSES,
    )
    left = "mesh_gateway_certificate_expiry_timestamp_seconds - time()"
    for name, severity, days in CERTIFICATE_LIMITS:
        yield Alert(
            name,
            severity,
            f"{left} < {days} * {DAY_S}",
            10 * MINUTE_S,
            "The certificate {{ $labels.certificate }} of {{ $labels.pod }} expires",
            "It is valid for another {{ $value | humanizeDuration }}; then every new connection fails.",
            PROCESSES,
        )


def _accounts() -> Iterator[Alert]:
    yield Alert(
        "MeshTokenBudgetNearEnd",
        "ticket",
        'max by (scope, owner, per) (mesh_gateway_token_budget_used_ratio{per=~"hour|day"}) > 0.9',
        MINUTE_S,
        "{{ $labels.scope }} {{ $labels.owner }} has nearly used up its tokens of the {{ $labels.per }}",
        "{{ $value | humanizePercentage }} is used or reserved; at 100 % its calls are refused until the "
        "{{ $labels.per }} of UTC is over.",
        TENANTS,
    )
    yield Alert(
        "MeshUsageLogFailing",
        "ticket",
        "mesh_gateway_usage_log_last_write_successful == 0",
        5 * MINUTE_S,
        "{{ $labels.pod }} cannot write its usage records",
        "They wait in memory, and are lost when it ends or they become too many.",
        TENANTS,
    )
