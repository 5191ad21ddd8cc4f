"""What one side of a canary did, in bounded memory, so that the samples of gateways add up. Pure.

Owns the counts and the sketch of times. What they mean is `canary`'s to judge.

Source of the sketch: Masson, Rim & Lee 2019, DDSketch, with fixed bounds.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterable
from typing import Any

SHORTEST_S, LONGEST_S = 1e-4, 1e5
GROWTH = 1.04
"""A bucket's upper bound over its lower one: a quantile is right within 2 %."""
_LOG_GROWTH = math.log(GROWTH)
_OFFSET = math.log(SHORTEST_S)
BUCKETS = math.ceil((math.log(LONGEST_S) - _OFFSET) / _LOG_GROWTH)

FAULTS = frozenset({"UNAVAILABLE", "INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED", "DATA_LOSS"})
"""gRPC codes that are a worker's own fault."""


class Side(enum.Enum):
    """Which of the two versions that are compared."""

    CANARY = "canary"
    STABLE = "stable"


class CallResult(enum.Enum):
    """What a call says of the version that served it."""

    GOOD = "good"
    FAULT = "fault"


def result_of(code: str) -> CallResult | None:
    """What a gRPC code's name says of a version; None if it speaks of the caller or of a limit."""
    if code == "OK":
        return CallResult.GOOD
    return CallResult.FAULT if code in FAULTS else None


class Sketch:
    """Owns how often times of each length were seen."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.count = 0

    def add(self, seconds: float) -> None:
        """Count one time."""
        bounded = min(max(seconds, SHORTEST_S), LONGEST_S)
        bucket = min(int((math.log(bounded) - _OFFSET) / _LOG_GROWTH), BUCKETS - 1)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.count += 1

    def merge(self, other: Sketch) -> None:
        """Count what another one counted."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.count += other.count

    def at_rank(self, rank: int) -> float | None:
        """The time in seconds at a rank from 1, shortest first; None if there is none."""
        if not 1 <= rank <= self.count:
            return None
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return math.exp(_OFFSET + (bucket + 0.5) * _LOG_GROWTH)
        return None

    def quantile(self, share: float) -> float | None:
        """The time in seconds that this share of the times does not pass; None without any."""
        return self.at_rank(max(1, math.ceil(share * self.count)))

    def surely_above(self, share: float, confidence_z: float) -> float | None:
        """What the quantile is surely not below, as far as so few times can tell; None if nothing.

        confidence_z: standard deviations, e.g. 2.33 for 99 %. The rank's spread is that of a
        binomial count, so that one slow call of fifty is no 99th percentile.
        """
        spread = confidence_z * math.sqrt(self.count * share * (1.0 - share))
        return self.at_rank(math.ceil(share * self.count - spread))


@dataclasses.dataclass(slots=True)
class SampleStats:
    """What one side did. durations: of good calls. first_tokens: time to a stream's first message."""

    requests: int = 0
    errors: int = 0
    durations: Sketch = dataclasses.field(default_factory=Sketch)
    first_tokens: Sketch = dataclasses.field(default_factory=Sketch)

    @property
    def error_ratio(self) -> float:
        """Share of the calls that failed; 0 without any."""
        return self.errors / self.requests if self.requests else 0.0

    def note(self, result: CallResult, duration_s: float | None, first_token_s: float | None) -> None:
        """Count one call. The times of failed calls count for nothing: a fast failure is not fast."""
        self.requests += 1
        if result is CallResult.FAULT:
            self.errors += 1
            return
        if duration_s is not None:
            self.durations.add(duration_s)
        if first_token_s is not None:
            self.first_tokens.add(first_token_s)

    def merge(self, other: SampleStats) -> None:
        """Count what another gateway counted."""
        self.requests += other.requests
        self.errors += other.errors
        self.durations.merge(other.durations)
        self.first_tokens.merge(other.first_tokens)


@dataclasses.dataclass(slots=True)
class StepSamples:
    """Both sides of one step."""

    canary: SampleStats = dataclasses.field(default_factory=SampleStats)
    stable: SampleStats = dataclasses.field(default_factory=SampleStats)

    @property
    def has_calls(self) -> bool:
        """Whether anything was seen."""
        return self.canary.requests + self.stable.requests > 0

    def document(self) -> list[Any]:
        """As numbers and lists, for JSON."""
        return [_document(self.canary), _document(self.stable)]


class LatestSamples:
    """Owns the samples of the latest calls of a step: between one and two windows of them.

    Without the window, a version that breaks late in a long step would hide behind its past.
    """

    def __init__(self, window: int) -> None:
        """window: calls of the canary."""
        self._window = window
        self._before = StepSamples()
        self._latest = StepSamples()

    @property
    def sum(self) -> StepSamples:
        """All that is kept."""
        return added((self._before, self._latest))

    def note(
        self, side: Side, result: CallResult, duration_s: float | None, first_token_s: float | None
    ) -> None:
        """Count one call."""
        if self._latest.canary.requests >= self._window:
            self._before, self._latest = self._latest, StepSamples()
        stats = self._latest.canary if side is Side.CANARY else self._latest.stable
        stats.note(result, duration_s, first_token_s)


def samples_from(document: object) -> StepSamples:
    """What `document` gave. Raises ValueError if it is not of that form."""
    match document:
        case [canary, stable]:
            return StepSamples(_stats(canary), _stats(stable))
    raise ValueError("not the samples of a step")


def added(parts: Iterable[StepSamples]) -> StepSamples:
    """What several gateways saw together."""
    total = StepSamples()
    for part in parts:
        total.canary.merge(part.canary)
        total.stable.merge(part.stable)
    return total


def _document(stats: SampleStats) -> list[Any]:
    sketches = (stats.durations, stats.first_tokens)
    return [stats.requests, stats.errors, *([list(pair) for pair in one.counts.items()] for one in sketches)]


def _stats(document: object) -> SampleStats:
    match document:
        case [int(requests), int(errors), list(durations), list(first_tokens)] if 0 <= errors <= requests:
            return SampleStats(requests, errors, _sketch(durations), _sketch(first_tokens))
    raise ValueError("not the samples of one side")


def _sketch(pairs: list[object]) -> Sketch:
    made = Sketch()
    for pair in pairs:
        match pair:
            case [int(bucket), int(count)] if 0 <= bucket < BUCKETS and count >= 0:
                made.counts[bucket] = made.counts.get(bucket, 0) + count
                made.count += count
            case _:
                raise ValueError("not a bucket and its count")
    return made
