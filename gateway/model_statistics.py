"""What this gateway counted of the calls of each model, for the Open Inference Protocol's statistics.

Owns the counts, of one process and since its start. Prometheus' metrics are counted apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from gateway.usage.record import UsageRecord

Target = tuple[str, str]
"""Name and version of a model."""


@dataclasses.dataclass(slots=True)
class Count:
    """So many calls, and how long they took together in seconds."""

    calls: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """One more call."""
        self.calls += 1
        self.seconds += seconds


@dataclasses.dataclass(slots=True)
class ModelCounts:
    """What is known of one version of a model.

    succeeded, failed: from the arrival to the end. queued, computed: of those that succeeded, the
    wait in the gateway's queue, and the rest of those that a worker answered. cache_hit, cache_miss:
    of those that succeeded, what the response cache had. last_end_s: Unix time; 0 = never.
    """

    succeeded: Count = dataclasses.field(default_factory=Count)
    failed: Count = dataclasses.field(default_factory=Count)
    queued: Count = dataclasses.field(default_factory=Count)
    computed: Count = dataclasses.field(default_factory=Count)
    cache_hit: Count = dataclasses.field(default_factory=Count)
    cache_miss: Count = dataclasses.field(default_factory=Count)
    last_end_s: float = 0.0


class ModelStatistics:
    """Owns the counts of every model."""

    def __init__(self) -> None:
        self._counts: dict[Target, ModelCounts] = {}

    def of(self, model: str, version: str) -> ModelCounts:
        """The counts of a version; all 0 if it had no call."""
        return self._counts.get((model, version)) or ModelCounts()

    def count(self, record: UsageRecord, waited_s: float, cache: str) -> None:
        """Count a call that ended. cache: "hit", "miss", or empty if no cache was asked."""
        counts = self._kept(record.model, record.version)
        counts.last_end_s = record.time_s
        duration_s = record.duration_s
        if record.outcome != "OK":
            counts.failed.add(duration_s)
            return
        counts.succeeded.add(duration_s)
        counts.queued.add(waited_s)
        if cache == "hit":
            counts.cache_hit.add(duration_s)
            return
        counts.computed.add(max(0.0, duration_s - waited_s))
        if cache:
            counts.cache_miss.add(duration_s)

    def count_taken_over(self, model: str, version: str, duration_s: float) -> None:
        """Count a call that failed here and that another model took over: here it is a failure."""
        self._kept(model, version).failed.add(duration_s)

    def keep_only(self, models: Collection[str]) -> None:
        """Forget the models that are not among these."""
        for target in [one for one in self._counts if one[0] not in models]:
            del self._counts[target]

    def _kept(self, model: str, version: str) -> ModelCounts:
        key = model, version
        counts = self._counts.get(key)
        if counts is None:
            counts = self._counts[key] = ModelCounts()
        return counts
