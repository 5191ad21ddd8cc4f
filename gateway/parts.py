"""The parts of a gateway, built from its settings and connected with each other.

Owns who knows whom. What starts and stops, and in which order, is `server`'s.
"""

from __future__ import annotations

import asyncio
import functools
import random
import time

from gateway.admission.admissions import Admissions
from gateway.admission.metrics import AdmissionMetrics
from gateway.canary.canaries import Canaries, local_canaries
from gateway.canary.metrics import CanaryMetrics
from gateway.canary.redis_canary_store import RedisCanaryStore
from gateway.front.admin_servicer import AdminServicer
from gateway.front.data_path import DataPath
from gateway.front.desk import CallDesk
from gateway.front.explain_servicer import ExplainServicer
from gateway.front.listing_servicer import ListingServicer
from gateway.front.open_inference_servicer import OpenInferenceServicer
from gateway.front.repository_servicer import RepositoryServicer
from gateway.front.serving import Serving
from gateway.front.settlement import Settlement
from gateway.front.visible_models import VisibleModels
from gateway.front.witnesses import Witnesses
from gateway.identity.identities import Identities
from gateway.limits.limiter import Limiter
from gateway.limits.metrics import BudgetMetrics, LimitMetrics
from gateway.limits.redis_ledger import RedisLedger
from gateway.metrics import GatewayMetrics
from gateway.model_statistics import ModelStatistics
from gateway.policy.engine import PolicyEngine
from gateway.policy.facts import Standing
from gateway.policy.limits.rules import LimitRule
from gateway.registry import Registry
from gateway.response_cache.metrics import ResponseCacheMetrics
from gateway.response_cache.response_caches import ResponseCaches
from gateway.settings import GatewaySettings
from gateway.shadow.metrics import ShadowMetrics
from gateway.shadow.shadows import Shadows
from gateway.upstream.attempts import RetryBudgets
from gateway.upstream.copies import Copies
from gateway.upstream.fleet import Fleet
from gateway.upstream.http_services import HttpServices
from gateway.upstream.metrics import UpstreamMetrics
from gateway.upstream.relay import Relay
from gateway.upstream.worker_connections import WorkerConnections
from gateway.usage.metrics import UsageMetrics
from gateway.usage.usage_log import UsageLog
from inference_mesh.background import Background
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.health_board import HealthBoard


class Parts:
    """Every owner of state of one gateway."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.metrics = GatewayMetrics()
        self.background = Background()
        self._rng = random.Random()
        registry, limit = self.metrics.registry, settings.max_message_bytes
        self.health = HealthBoard(self.models_ready)
        self._upstream_metrics = UpstreamMetrics(registry)
        self.worker_connections = WorkerConnections(settings.worker_tls, max_message_bytes=limit)
        self.fleet = Fleet(
            self.background, self._upstream_metrics, self.worker_connections, on_change=self._replicas_changed
        )
        self.identities = Identities(
            settings.keys, settings.tenants, requires_key=settings.requires_key, metrics=self.metrics
        )
        self.limiter = _limiter(settings, LimitMetrics(registry))
        budgets = functools.partial(_budgets, self.limiter)
        BudgetMetrics(registry, budgets, settings.tenant_label_limit)
        self.admissions = Admissions(AdmissionMetrics(registry), self._rng)
        self.canaries = _canaries(settings, CanaryMetrics(registry))
        self.policy = PolicyEngine(
            max_message_bytes=limit, has_ready=self.fleet.has_ready, canary_of=self.canaries.share_of
        )
        self.caches = ResponseCaches(ResponseCacheMetrics(registry))
        self.shadows = Shadows(
            ShadowMetrics(registry),
            self.background.spawn,
            Copies(self.fleet, self.admissions, self._rng).send,
            self._waiting_at,
            self._rng.random,
            time.time,
        )
        self._usage_metrics = UsageMetrics(
            registry, settings.tenant_label_limit, settings.tenant_model_label_limit
        )
        self.usage_log = _usage_log(settings, self._usage_metrics)
        self.statistics = ModelStatistics()
        self.desk = CallDesk(
            self.identities,
            self.metrics,
            self._rng,
            at_end=Settlement(self.canaries, self._usage_metrics, self.usage_log, self.statistics).tell,
            has_tls=settings.tls_client_ca is not None,
        )
        followers = (
            self.policy.replace_models,
            self.canaries.replace,
            self.admissions.keep_only,
            self.caches.replace,
            self.shadows.replace,
            self._keep_only,
        )
        self.registry = Registry(settings.models, self.fleet, self.metrics, followers)
        self.data_path = self._data_path(limit)
        visible = VisibleModels(self.policy, self.fleet, self.desk.draw)
        self.listing = ListingServicer(self.desk, visible)
        self.open_inference = OpenInferenceServicer(self.desk, visible, self.statistics)
        self.repository = RepositoryServicer(self.desk, self.policy, self.fleet)
        self.explain = ExplainServicer(self.desk, self.policy, self.limiter, self.admissions, self.fleet)
        self.admin = AdminServicer(self.desk, self.canaries, self.shadows)

    def models_ready(self) -> dict[str, bool]:
        """Whether each model has a ready replica of any version."""
        ready: dict[str, bool] = {}
        for target in self.fleet.targets:
            ready[target.entry.name] = ready.get(target.entry.name, False) or bool(target.pool.ready)
        return ready

    def _data_path(self, max_answer_bytes: int) -> DataPath:
        budgets = self._budgets = RetryBudgets()
        return DataPath(
            self.desk,
            Serving(self.desk, self.policy, self.limiter, self.admissions, self.fleet, self.shadows),
            Relay(self._upstream_metrics, budgets, self._rng),
            HttpServices(self._upstream_metrics, budgets, self._rng, max_answer_bytes=max_answer_bytes),
            Witnesses(self.caches, self.shadows),
        )

    def _replicas_changed(self) -> None:
        for target in self.fleet.targets:
            self.admissions.resize(target.entry.name, target.version, target.pool.capacity)
        self.health.renew()

    def _waiting_at(self, model: str, version: str) -> int:
        return self.admissions.of(model, version).depth

    def _keep_only(self, entries: tuple[ModelEntry, ...]) -> None:
        """Forget what was counted of models that are no more."""
        models = frozenset(entry.name for entry in entries)
        counted = (self._usage_metrics, self.metrics, self._upstream_metrics, self._budgets, self.statistics)
        for one in counted:
            one.keep_only(models)


def _limiter(settings: GatewaySettings, metrics: LimitMetrics) -> Limiter:
    """Limits of this process, or of all gateways where there is a Redis."""
    ledger = None
    if settings.redis_url is not None:
        ledger = RedisLedger(settings.redis_url, gateway_id=settings.gateway_id, replicas=settings.replicas)
    return Limiter(
        metrics,
        ledger,
        replicas=settings.replicas,
        clock=lambda: asyncio.get_running_loop().time(),
        window_phase_s=time.time() - time.monotonic(),
    )


def _usage_log(settings: GatewaySettings, metrics: UsageMetrics) -> UsageLog | None:
    """None = no file of records is wanted."""
    return None if settings.usage_log is None else UsageLog(settings.usage_log, metrics)


def _budgets(limiter: Limiter) -> list[tuple[LimitRule, Standing]]:
    return limiter.budgets(time.monotonic())  # the event loop's clock, read by the thread of a scrape


def _canaries(settings: GatewaySettings, metrics: CanaryMetrics) -> Canaries:
    if settings.redis_url is None:
        return local_canaries(metrics)
    return Canaries(RedisCanaryStore(settings.redis_url, gateway_id=settings.gateway_id), metrics)
