"""How fast the tokens of one generated text come."""

from __future__ import annotations

from workers.engine import Chunk
from workers.metrics import WorkerMetrics


class TokenPace:
    """Tells the metrics the time to the first token, and the mean time of those after it."""

    def __init__(self, metrics: WorkerMetrics, started_s: float, delivered: int, answers: int = 1) -> None:
        """Begin before the first token.

        started_s: when the request arrived. delivered: tokens that the caller had before. answers: made
        side by side.
        """
        self._metrics = metrics
        self._started_s = started_s
        self._delivered = delivered
        self._answers = answers
        self._first_s: float | None = None

    def note(self, chunk: Chunk, now_s: float) -> None:
        """A chunk left the engine; the last one has the usage of the whole text."""
        if self._first_s is None and chunk.has_output:
            self._first_s = now_s
            self._metrics.first_token(now_s - self._started_s)
        if self._first_s is None or chunk.usage is None:
            return
        later = chunk.usage.completion_tokens / self._answers - self._delivered - 1
        if later > 0 and now_s > self._first_s:
            self._metrics.later_tokens((now_s - self._first_s) / later)
