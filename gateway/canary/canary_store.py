"""Where the progress of canaries is kept: the interface, and the store of a single gateway.

Owns what gateways tell each other of a canary. `redis_canary_store` is the one that they share.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Protocol

from gateway.policy.routing.canary import Progress
from gateway.policy.routing.samples import StepSamples


class CanaryStoreError(Exception):
    """The store did not answer as it must; nothing is known of what it did."""


@dataclasses.dataclass(frozen=True, slots=True)
class CanaryKey:
    """One canary. spec: changes whenever its entry in the registry does, which begins it anew."""

    model: str
    spec: str


@dataclasses.dataclass(frozen=True, slots=True)
class CanaryReport:
    """What one gateway knows. progress: None = nothing yet. samples: all of its own in that step."""

    progress: Progress | None
    step_age_s: float
    samples: StepSamples


@dataclasses.dataclass(frozen=True, slots=True)
class StoredCanary:
    """What the store says. is_judge: whether this gateway is to judge now, as one does at a time."""

    progress: Progress
    step_age_s: float
    is_judge: bool


class CanaryStore(Protocol):
    """Keeps how far each canary is."""

    @property
    def is_shared(self) -> bool:
        """Whether other gateways see the same."""
        ...

    async def report(self, key: CanaryKey, report: CanaryReport) -> StoredCanary:
        """Tell what is known, and be told. Raises CanaryStoreError.

        A canary that the store does not know, or knows less of, is taken from the report: a
        store that lost its memory learns it again. Idempotent.
        """
        ...

    async def samples(self, key: CanaryKey, step: int) -> tuple[StepSamples, ...]:
        """What each gateway reported of a step. Raises CanaryStoreError."""
        ...

    async def move(self, key: CanaryKey, after: int, progress: Progress) -> None:
        """Put a progress in the place of the one with revision `after`; nothing happens if that is past.

        Raises CanaryStoreError.
        """
        ...

    async def forget(self, key: CanaryKey) -> None:
        """Drop a canary that the registry has no more. Raises CanaryStoreError."""
        ...

    async def close(self) -> None:
        """Let go of what it holds."""
        ...


@dataclasses.dataclass(slots=True)
class _Kept:
    """One canary in memory."""

    progress: Progress
    since_s: float
    samples: StepSamples


class LocalCanaryStore:
    """Keeps the canaries of one gateway, as long as its process lives."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: seconds, monotonic."""
        self._clock = clock
        self._kept: dict[CanaryKey, _Kept] = {}

    @property
    def is_shared(self) -> bool:
        """No other gateway sees it."""
        return False

    async def report(self, key: CanaryKey, report: CanaryReport) -> StoredCanary:
        """As in the protocol; whoever reports is the judge."""
        kept = self._kept.get(key)
        if kept is None:
            begun_s = self._clock() - report.step_age_s
            kept = self._kept[key] = _Kept(report.progress or Progress(), begun_s, report.samples)
        kept.samples = report.samples
        return StoredCanary(kept.progress, self._clock() - kept.since_s, True)

    async def samples(self, key: CanaryKey, step: int) -> tuple[StepSamples, ...]:
        """As in the protocol."""
        kept = self._kept.get(key)
        return (kept.samples,) if kept is not None and kept.progress.step == step else ()

    async def move(self, key: CanaryKey, after: int, progress: Progress) -> None:
        """As in the protocol."""
        kept = self._kept.get(key)
        if kept is not None and kept.progress.revision == after:
            self._kept[key] = _Kept(progress, self._clock(), StepSamples())

    async def forget(self, key: CanaryKey) -> None:
        """As in the protocol."""
        self._kept.pop(key, None)

    async def close(self) -> None:
        """It holds nothing."""
