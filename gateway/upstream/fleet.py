"""All replicas of all models: one pool for each version of each entry of the registry.

Owns which pools there are. The entries come from `registry`, which also tells the policy.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable

from gateway.upstream.discovery import Discovery
from gateway.upstream.endpoints import GrpcEndpoint, HttpEndpoint
from gateway.upstream.metrics import UpstreamMetrics
from gateway.upstream.pool import AnyPool, EndpointPool, grpc_pool, http_pool
from gateway.upstream.worker_connections import WorkerConnections
from inference_mesh.background import Background, within
from inference_mesh.config.models_file import ModelEntry, Variant

SETTLE_LIMIT_S = 1.0
"""A new registry goes live after this even if some of its replicas do not answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class GrpcModel:
    """A version of a model whose replicas are workers. version: empty = the registry names none."""

    entry: ModelEntry
    pool: EndpointPool[GrpcEndpoint]
    version: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class HttpModel:
    """A version of a model whose replicas are HTTP services with a path."""

    entry: ModelEntry
    pool: EndpointPool[HttpEndpoint]
    path: str
    version: str = ""


Model = GrpcModel | HttpModel
Key = tuple[str, str]
"""Name and version of a model."""


@dataclasses.dataclass(slots=True)
class _Member:
    model: Model
    variant: Variant
    discovery: Discovery
    task: asyncio.Task[None]


class Fleet:
    """Owns the pools."""

    def __init__(
        self,
        background: Background,
        metrics: UpstreamMetrics,
        connections: WorkerConnections,
        *,
        on_change: Callable[[], None],
    ) -> None:
        """on_change: called whenever a replica comes, goes, or changes its health or its slots."""
        self._background = background
        self._metrics = metrics
        self._connections = connections
        self._on_change = on_change
        self._members: dict[Key, _Member] = {}
        self._coming: dict[Key, _Member] = {}
        self._first: dict[str, Model] = {}

    @property
    def models(self) -> tuple[Model, ...]:
        """The first version of every model, sorted by name."""
        return tuple(model for _, model in sorted(self._first.items()))

    @property
    def targets(self) -> tuple[Model, ...]:
        """Every version of every model, sorted by name, the versions in the order of the registry."""
        return tuple(
            self._members[name, variant.version].model
            for name, model in sorted(self._first.items())
            for variant in model.entry.variants
        )

    def model(self, name: str) -> Model | None:
        """The first version of a model; None if there is no such model."""
        return self._first.get(name)

    def target(self, name: str, version: str) -> Model | None:
        """One version of a model; None if there is none."""
        member = self._members.get((name, version))
        return member.model if member else None

    def has_ready(self, name: str, version: str) -> bool:
        """Whether a version of a model has a ready replica."""
        member = self._members.get((name, version))
        return member is not None and bool(member.model.pool.ready)

    async def apply(self, entries: Iterable[ModelEntry], commit: Callable[[], None]) -> None:
        """Have exactly these models; commit is called in the moment that they go live.

        Replicas are found and probed first, and those that are no more finish their calls.
        """
        self._coming = members = self._new_members(tuple(entries))
        settled = asyncio.gather(*(member.discovery.settled() for member in members.values()))
        await within(SETTLE_LIMIT_S, settled)
        old, self._members = self._members, members
        self._first = {}
        for (name, _), member in members.items():
            self._first.setdefault(name, member.model)
        commit()
        self._close_unused(old)
        self._changed()

    def reopen(self) -> None:
        """Open new connections to every worker, which new calls take; the running ones end on the old."""
        members = (*self._members.values(), *self._coming.values())
        for pool in dict.fromkeys(member.model.pool for member in members):
            pool.reopen()

    async def close(self) -> None:
        """Close every connection at once."""
        for member in self._members.values():
            await member.model.pool.close_now()

    def _new_members(self, entries: tuple[ModelEntry, ...]) -> dict[Key, _Member]:
        """The members of the entries; a pool stays if it can, each for one version only."""
        wanted = [(entry, variant) for entry in entries for variant in entry.variants]
        spare = dict(self._members)
        kept: dict[Key, _Member] = {}
        for entry, variant in wanted:
            same = spare.get((entry.name, variant.version))
            if same is not None and self._may_keep(same, entry, variant):
                kept[entry.name, variant.version] = spare.pop((entry.name, variant.version))
        members = {}
        for entry, variant in wanted:
            key = entry.name, variant.version
            current = kept.get(key) or self._renamed(spare, entry, variant)
            members[key] = self._member(entry, variant, current)
        return members

    def _member(self, entry: ModelEntry, variant: Variant, current: _Member | None) -> _Member:
        """The member of a version; current: the one whose pool it takes over."""
        if current is None:
            pool = self._new_pool(entry, variant)
            discovery = Discovery(pool.set_addresses)
            task = self._background.spawn(f"discover {entry.name} {variant.version}", discovery.run)
        else:
            pool, discovery, task = current.model.pool, current.discovery, current.task
        pool.in_flight_per_replica = entry.queue.in_flight_per_replica
        pool.longest_call_s = entry.timeout_s
        discovery.retarget(variant.targets, is_by_name=variant.is_by_name)
        return _Member(_model(entry, pool, variant.version), variant, discovery, task)

    def _new_pool(self, entry: ModelEntry, variant: Variant) -> AnyPool:
        if entry.protocol == "http":
            return http_pool(entry.name, self._background, self._metrics, self._changed)
        return grpc_pool(
            entry.name,
            self._connections,
            self._background,
            self._metrics,
            self._changed,
            _service(variant),
        )

    def _renamed(self, spare: dict[Key, _Member], entry: ModelEntry, variant: Variant) -> _Member | None:
        """The member whose replicas get another version's name; it is taken out of the spare ones."""
        for key, member in spare.items():
            is_same_place = member.variant.targets == variant.targets and key[0] == entry.name
            if is_same_place and self._may_keep(member, entry, variant):
                return spare.pop(key)
        return None

    def _may_keep(self, member: _Member, entry: ModelEntry, variant: Variant) -> bool:
        """Whether the member's pool may serve a version: its connections are such as that one's would be."""
        is_same_name = self._connections.tls is None or _service(member.variant) == _service(variant)
        return is_same_name and member.model.entry.protocol == entry.protocol

    def _close_unused(self, old: dict[Key, _Member]) -> None:
        used = {id(member.discovery) for member in self._members.values()}
        for key, member in old.items():
            if id(member.discovery) not in used:
                member.task.cancel()
                member.model.pool.close()
            if key not in self._members:
                self._metrics.forget_version(*key)

    def _changed(self) -> None:
        for (name, version), member in self._members.items():
            self._metrics.capacity.set((name, version), member.model.pool.capacity)
        self._on_change()


def _service(variant: Variant) -> str:
    """The name that the replicas' addresses are found by; empty = the registry has their addresses."""
    return variant.targets[0].host if variant.is_by_name else ""


def _model(entry: ModelEntry, pool: AnyPool, version: str) -> Model:
    if entry.path is None:
        return GrpcModel(entry, pool, version)  # type: ignore[arg-type]  # a pool's kind follows the path
    return HttpModel(entry, pool, entry.path, version)  # type: ignore[arg-type]
