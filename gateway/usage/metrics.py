"""The metrics of what callers use.

`tenant` is one of the first so many tenants that were seen, or "other"; `model` is a name of
the registry, or "other" behind the first so many pairs of tenant and model.
"""

from __future__ import annotations

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.tally import Tally
from gateway.usage.record import UsageRecord

OTHER = "other"
PAIR_LIMIT = 1000
PROMPT, COMPLETION, CACHED, RESPONSE_CACHED = "prompt", "completion", "cached", "response_cached"


class UsageMetrics:
    """Owns the series of this room in the gateway's registry, and who has their own."""

    def __init__(self, registry: CollectorRegistry, tenant_limit: int, pair_limit: int = PAIR_LIMIT) -> None:
        """Both limits are 0 or more: tenants, and pairs of tenant and model, with series of their own."""
        self._tenant_limit = tenant_limit
        self._pair_limit = pair_limit
        self._tenants: set[str] = set()
        self._pairs: dict[tuple[str, str], tuple[str, str]] = {}
        self.tokens = Tally(
            "mesh_gateway_tokens_total",
            "Tokens by type: prompt, and of these those cached by a worker; completion; or response_cached, "
            "those of answers for which no model ran.",
            ("tenant", "model", "type"),
            registry,
        )
        self.requests = Tally(
            "mesh_gateway_tenant_requests_total",
            "Admitted calls that ended, by their gRPC code.",
            ("tenant", "model", "outcome"),
            registry,
        )
        self.seconds = Tally(
            "mesh_gateway_tenant_request_seconds_total",
            "Time that admitted calls took from their arrival to their end; by their number, the mean.",
            ("tenant", "model"),
            registry,
        )
        self.log_is_good = Gauge(
            "mesh_gateway_usage_log_last_write_successful",
            "1 if the last write of usage records succeeded, 0 if they wait in memory.",
            registry=registry,
        )
        self.log_is_good.set(1)
        self.log_waiting_bytes = Gauge(
            "mesh_gateway_usage_log_waiting_bytes",
            "Usage records that are not written yet.",
            registry=registry,
        )
        self.records_lost = Counter(
            "mesh_gateway_usage_records_lost_total",
            "Usage records that were given up, because they could not be written for too long.",
            registry=registry,
        )

    def count(self, record: UsageRecord) -> None:
        """Add one record."""
        asked = (record.tenant, record.model)
        pair, add = self._pairs.get(asked) or self._new_pair(asked), self.tokens.add
        tenant, model = pair
        self.requests.add((tenant, model, record.outcome))
        self.seconds.add(pair, record.duration_s)
        if record.response_cached:
            add((tenant, model, RESPONSE_CACHED), record.prompt_tokens + record.completion_tokens)
            return
        if record.prompt_tokens:
            add((tenant, model, PROMPT), record.prompt_tokens)
        if record.completion_tokens:
            add((tenant, model, COMPLETION), record.completion_tokens)
        if record.cached_tokens:
            add((tenant, model, CACHED), record.cached_tokens)

    def keep_only(self, models: Collection[str]) -> None:
        """Drop the series of models that are no more."""
        kept = frozenset((*models, OTHER))
        for pair in [one for one in self._pairs if one[1] not in kept]:
            del self._pairs[pair]
        for tally in (self.requests, self.seconds, self.tokens):
            tally.forget(lambda labels: labels[1] not in kept)

    def _new_pair(self, asked: tuple[str, str]) -> tuple[str, str]:
        """The labels of a pair that is not known; it is from now on, while there is room."""
        pair = (self._tenant_label(asked[0]), asked[1])
        if pair in self._pairs:  # further tenants share one label
            return pair
        if len(self._pairs) >= self._pair_limit:
            return pair[0], OTHER
        self._pairs[pair] = pair
        return pair

    def _tenant_label(self, tenant: str) -> str:
        if tenant in self._tenants:
            return tenant
        if len(self._tenants) >= self._tenant_limit:
            return OTHER
        self._tenants.add(tenant)
        return tenant
