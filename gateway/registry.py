"""The models that the gateway routes to, kept as models.yaml says.

Owns the file's state. A file that is wrong changes nothing: the last good one stays, and the
metric and /readyz tell why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.metrics import GatewayMetrics
from gateway.upstream.fleet import Fleet
from inference_mesh import telemetry
from inference_mesh.background import Background
from inference_mesh.config.errors import ConfigError
from inference_mesh.config.models_file import ModelEntry, ModelsFile, parse_models
from inference_mesh.config.watched_file import WatchedFile

log = telemetry.get_logger(__name__)

Follower = Callable[[tuple[ModelEntry, ...]], None]


class Registry:
    """Watches models.yaml and applies each good version, one after the other."""

    def __init__(
        self, path: Path, fleet: Fleet, metrics: GatewayMetrics, followers: Sequence[Follower]
    ) -> None:
        """followers: told of the entries in the moment that they go live, all in the same step."""
        self._fleet = fleet
        self._followers = followers
        self._metrics = metrics
        self._latest: ModelsFile | None = None
        self._has_news = asyncio.Event()
        self._is_loaded = False
        self._file: WatchedFile[ModelsFile] = WatchedFile(
            path,
            lambda text: parse_models(text, source=str(path)),
            on_change=self._take,
            on_reload=self._count,
        )

    @property
    def is_loaded(self) -> bool:
        """True once a good file went live."""
        return self._is_loaded

    @property
    def state(self) -> str:
        """For /readyz: "ok", or what is wrong with the file."""
        return "ok" if self._file.last_error is None else str(self._file.last_error)

    async def start(self, background: Background) -> None:
        """Read the file and put it live if it is good; then watch it."""
        self._file.check()
        if self._latest is not None:
            await self._apply(self._latest)
        background.spawn("watch the registry", self._file.watch)
        background.spawn("apply the registry", self._apply_news)

    def _take(self, models: ModelsFile) -> None:
        self._latest = models
        self._has_news.set()

    def _count(self, error: ConfigError | None) -> None:
        self._metrics.registry_reloads.labels("success" if error is None else "failure").inc()
        self._metrics.registry_is_good.set(error is None)

    async def _apply_news(self) -> None:
        while True:
            await self._has_news.wait()
            if self._latest is not None:
                await self._apply(self._latest)

    async def _apply(self, models: ModelsFile) -> None:
        self._has_news.clear()

        def commit() -> None:
            for follow in self._followers:
                follow(models.models)

        await self._fleet.apply(models.models, commit)
        self._is_loaded = True
        log.info("registry is live", models=len(models.models))
