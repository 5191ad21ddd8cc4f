"""The response caches of all models that have one. Owns which there are."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.response_cache.metrics import ResponseCacheMetrics
from gateway.response_cache.response_cache import ResponseCache
from inference_mesh.config.models_file import ModelEntry


class ResponseCaches:
    """Owns one cache for each entry of the registry that asks for it."""

    def __init__(self, metrics: ResponseCacheMetrics) -> None:
        self._metrics = metrics
        self._caches: dict[str, tuple[ModelEntry, ResponseCache]] = {}

    def of(self, model: str) -> ResponseCache | None:
        """The cache of a model; None if it has none."""
        found = self._caches.get(model)
        return found[1] if found else None

    def replace(self, entries: Iterable[ModelEntry]) -> None:
        """Have the caches of exactly these entries.

        Whatever changes in an entry empties its cache: another endpoint may be another model.
        """
        old, self._caches = self._caches, {}
        for entry in entries:
            if entry.cache is None:
                continue
            same = old.pop(entry.name, None)
            if same is not None and same[0] == entry:
                self._caches[entry.name] = same
                continue
            if same is not None:
                self._close(entry.name, same[1])
            self._caches[entry.name] = (entry, ResponseCache(entry.name, entry.cache, self._metrics))
        for name, (_, cache) in old.items():
            self._close(name, cache)

    def _close(self, model: str, cache: ResponseCache) -> None:
        cache.close()
        self._metrics.forget(model)
