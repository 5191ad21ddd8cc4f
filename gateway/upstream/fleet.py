"""All replicas of all models: one pool for each entry of the registry.

Owns which pools there are. The entries come from `registry`, which also tells the policy.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable

from gateway.background import Background, within
from gateway.metrics import GatewayMetrics
from gateway.upstream.discovery import Discovery
from gateway.upstream.endpoints import AnyPool, EndpointPool, GrpcEndpoint, HttpEndpoint, grpc_pool, http_pool
from inference_mesh.config.models_file import ModelEntry

SETTLE_LIMIT_S = 1.0
"""A new registry goes live after this even if some of its replicas do not answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class GrpcModel:
    """A model whose replicas are workers."""

    entry: ModelEntry
    pool: EndpointPool[GrpcEndpoint]


@dataclasses.dataclass(frozen=True, slots=True)
class HttpModel:
    """A model whose replicas are HTTP services with a path."""

    entry: ModelEntry
    pool: EndpointPool[HttpEndpoint]
    path: str


Model = GrpcModel | HttpModel


@dataclasses.dataclass(slots=True)
class _Member:
    model: Model
    discovery: Discovery
    task: asyncio.Task[None]


class Fleet:
    """Owns the pools."""

    def __init__(
        self,
        background: Background,
        metrics: GatewayMetrics,
        *,
        max_message_bytes: int,
        on_change: Callable[[], None],
    ) -> None:
        """on_change: called whenever a replica comes, goes, or changes its health."""
        self._background = background
        self._metrics = metrics
        self._max_message_bytes = max_message_bytes
        self._on_change = on_change
        self._members: dict[str, _Member] = {}

    @property
    def models(self) -> tuple[Model, ...]:
        """Every model, sorted by name."""
        return tuple(member.model for _, member in sorted(self._members.items()))

    def model(self, name: str) -> Model | None:
        """The model of a name; None if there is none."""
        member = self._members.get(name)
        return member.model if member else None

    async def apply(self, entries: Iterable[ModelEntry], commit: Callable[[], None]) -> None:
        """Have exactly these models; commit is called in the moment that they go live.

        Replicas are found and probed first, and those that are no more finish their calls.
        """
        members = {entry.name: self._member(entry) for entry in entries}
        settled = asyncio.gather(*(member.discovery.settled() for member in members.values()))
        await within(SETTLE_LIMIT_S, settled)
        old, self._members = self._members, members
        commit()
        for name, member in old.items():
            if name not in members or members[name].discovery is not member.discovery:
                member.task.cancel()
                member.model.pool.close()
        self._on_change()

    async def close(self) -> None:
        """Close every connection at once."""
        for member in self._members.values():
            await member.model.pool.close_now()

    def _member(self, entry: ModelEntry) -> _Member:
        """The member of an entry; the pool stays if it can."""
        current = self._members.get(entry.name)
        if current is None or current.model.entry.protocol != entry.protocol:
            pool = self._new_pool(entry)
            discovery = Discovery(pool.set_addresses)
            task = self._background.spawn(f"discover {entry.name}", discovery.run)
        else:
            pool, discovery, task = current.model.pool, current.discovery, current.task
        discovery.retarget(entry.targets, is_by_name=entry.service is not None)
        return _Member(_model(entry, pool), discovery, task)

    def _new_pool(self, entry: ModelEntry) -> AnyPool:
        if entry.protocol == "http":
            return http_pool(entry.name, self._background, self._metrics, self._on_change)
        return grpc_pool(
            entry.name, self._max_message_bytes, self._background, self._metrics, self._on_change
        )


def _model(entry: ModelEntry, pool: AnyPool) -> Model:
    if entry.path is None:
        return GrpcModel(entry, pool)  # type: ignore[arg-type]  # a pool's kind follows the entry's path
    return HttpModel(entry, pool, entry.path)  # type: ignore[arg-type]
