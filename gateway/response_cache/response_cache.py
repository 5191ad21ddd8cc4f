"""The kept answers of one model.

Owns them and their memory: never more bytes than the registry allows, the least recently used
go first, and none is given after its time. The clock is passed in.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence

from gateway.response_cache.metrics import EVICTED, EXPIRED, ResponseCacheMetrics
from gateway.response_cache.stored_answer import StoredAnswer, stored_answer
from inference_mesh.config.model_traffic import CacheSpec

MAX_ANSWER_SHARE = 0.125
"""Of the memory; a longer answer is not kept, as it would drive out too many others."""
MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""Rewriting a longer one would hold up the event loop."""


class ResponseCache:
    """Owns the kept answers of one model."""

    def __init__(self, model: str, spec: CacheSpec, metrics: ResponseCacheMetrics) -> None:
        self._model = model
        self._max_bytes = int(spec.size_mb * 1024 * 1024)
        self._ttl_s = spec.ttl_s
        self._metrics = metrics
        self._answers: collections.OrderedDict[bytes, tuple[float, StoredAnswer]] = collections.OrderedDict()
        self._size_bytes = 0
        self._is_closed = False
        self._hits = metrics.lookups.labels(model, "hit")
        self._misses = metrics.lookups.labels(model, "miss")

    @property
    def size_bytes(self) -> int:
        """Memory of the kept answers, Python's own share included."""
        return self._size_bytes

    @property
    def max_answer_bytes(self) -> int:
        """Longer answers are not kept, so that nobody needs to collect them."""
        return min(MAX_ANSWER_BYTES, int(self._max_bytes * MAX_ANSWER_SHARE))

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, key: bytes, now_s: float) -> StoredAnswer | None:
        """The kept answer to a question, and counts whether there is one."""
        found = self._answers.get(key)
        if found is not None and now_s >= found[0]:
            self._remove(key, EXPIRED)
            found = None
        if found is None:
            self._misses.inc()
            return None
        self._answers.move_to_end(key)
        self._hits.inc()
        return found[1]

    def keep(self, key: bytes, method: str, messages: Sequence[bytes], now_s: float) -> bool:
        """Keep a whole answer, if it may be kept and has room.

        method, messages: as `stored_answer` takes them. Ask the cache that was asked for the answer,
        so that what an earlier registry's replica said is never kept in a later one's.
        """
        if self._is_closed or sum(map(len, messages)) > self.max_answer_bytes:
            return False
        answer = stored_answer(method, messages)
        if answer is None or answer.size_bytes > self.max_answer_bytes:
            return False
        if key in self._answers:
            self._remove(key, None)
        while self._size_bytes + answer.size_bytes > self._max_bytes:
            self._evict(now_s)
        self._answers[key] = (now_s + self._ttl_s, answer)
        self._size_bytes += answer.size_bytes
        self._show()
        return True

    def close(self) -> None:
        """Forget all answers, and keep none from now on."""
        self._is_closed = True
        self._answers.clear()
        self._size_bytes = 0

    def _evict(self, now_s: float) -> None:
        oldest = next(iter(self._answers))
        self._remove(oldest, EXPIRED if now_s >= self._answers[oldest][0] else EVICTED)

    def _remove(self, key: bytes, reason: str | None) -> None:
        self._size_bytes -= self._answers.pop(key)[1].size_bytes
        if reason is not None:
            self._metrics.evictions.labels(self._model, reason).inc()
        self._show()

    def _show(self) -> None:
        self._metrics.size_bytes.labels(self._model).set(self._size_bytes)
        self._metrics.answers.labels(self._model).set(len(self._answers))
