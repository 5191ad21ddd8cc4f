"""Copies calls to shadows, as far as callers leave room for them.

Owns which models have a shadow, the copies that run, and a report for each. Copies are not
billed, have the lowest priority, and end first when callers wait for the same target.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable

from gateway.forwarded_metadata import Pairs
from gateway.policy.shadow.copying import Choice, Target, choose, shadow_of, stable_of
from gateway.policy.shadow.measures import Comparison
from gateway.shadow.comparison import METHODS
from gateway.shadow.metrics import CopyResult, ShadowMetrics
from gateway.shadow.report import Difference, ShadowReport
from gateway.shadow.shadow_call import Send, ShadowCall, ShadowRequest
from inference_mesh.background import Job
from inference_mesh.config.model_traffic import ShadowSpec
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.metadata import MODEL, PRIORITY, VERSION

DECIDED = frozenset({MODEL, VERSION, PRIORITY})
"""What a copy is told differently."""
NO_VERSION = b"\x12\x00"
"""Field 2 of every inference request, the version, empty: it takes the place of what the caller wrote."""

Spawn = Callable[[str, Job], asyncio.Task[None]]


@dataclasses.dataclass(frozen=True, slots=True)
class CopyFacts:
    """What is known of a call that may be copied.

    method: name of the RPC. version: the one that answers it. metadata: what its worker is told.
    """

    request_id: str
    method: str
    version: str
    metadata: Pairs


@dataclasses.dataclass(slots=True)
class _Shadow:
    """One model's shadow. copies: those that run, oldest first."""

    entry: ModelEntry
    spec: ShadowSpec
    report: ShadowReport
    copies: dict[ShadowCall, None] = dataclasses.field(default_factory=dict)


class Shadows:
    """Owns the copies. One for the whole gateway; all of it runs on the event loop."""

    def __init__(
        self,
        metrics: ShadowMetrics,
        spawn: Spawn,
        send: Send,
        waiting_at: Callable[[str, str], int],
        draw: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        """spawn: runs a named job, as `Background.spawn`. send: asks a replica.

        waiting_at: callers who wait for a model's version. draw: a random number in [0, 1).
        wall_clock: Unix time in seconds.
        """
        self._metrics = metrics
        self._spawn = spawn
        self._send = send
        self._waiting_at = waiting_at
        self._draw = draw
        self._wall_clock = wall_clock
        self._shadows: dict[str, _Shadow] = {}

    @property
    def in_flight(self) -> int:
        """Copies that run."""
        return sum(len(shadow.copies) for shadow in self._shadows.values())

    def replace(self, entries: Iterable[ModelEntry]) -> None:
        """Have the shadows of exactly these entries; one that did not change keeps its report."""
        models = {entry.name: entry for entry in entries}
        old, self._shadows = self._shadows, {}
        for name, entry in models.items():
            target = shadow_of(entry, models)
            if target is None or entry.shadow is None:
                continue
            same = old.get(name)
            if same is not None and (same.spec, same.report.shadow) == (entry.shadow, target):
                same.entry = entry
                self._shadows[name] = old.pop(name)
            else:
                report = ShadowReport(stable_of(entry, target), target)
                self._shadows[name] = _Shadow(entry, entry.shadow, report)
        for name, gone in old.items():
            _drop(gone.copies, len(gone.copies))
            if name not in self._shadows:
                self._metrics.forget(name)

    def offer(self, model: str, facts: CopyFacts, message: bytes) -> ShadowCall | None:
        """A copy of the call, already on its way, or None.

        message: the request as it came. Whoever gets the copy must end it, with `finish` or
        `discard`, however the call itself ends.
        """
        shadow = self._shadows.get(model)
        if shadow is None or facts.method not in METHODS:
            return None
        target = shadow.report.shadow
        if target == (model, facts.version):
            return None
        choice = choose(shadow.spec, self._draw(), len(shadow.copies), self._waiting_at(*target))
        if choice is Choice.NOT_CHOSEN:
            return None
        if choice is Choice.DROPPED:
            self._count(shadow, model, CopyResult.DROPPED)
            return None
        return self._start(shadow, model, facts, message)

    def cancel_one(self, model: str, version: str) -> bool:
        """End one copy that works on this target, the youngest first; False if there is none."""
        return self._cancel(Target(model, version), 1) > 0

    def set_pressure(self, model: str, version: str) -> int:
        """End as many copies on this target as callers wait for it; how many that were.

        To be called whenever a caller begins to wait there.
        """
        return self._cancel(Target(model, version), self._waiting_at(model, version))

    def report(self, model: str) -> ShadowReport | None:
        """What was found so far; None if the model has no shadow."""
        shadow = self._shadows.get(model)
        return shadow.report if shadow else None

    def _start(self, shadow: _Shadow, model: str, facts: CopyFacts, message: bytes) -> ShadowCall:
        target = shadow.report.shadow
        kept = tuple((key, value) for key, value in facts.metadata if key not in DECIDED)
        ours: list[tuple[str, str | bytes]] = [(MODEL, target.model), (PRIORITY, "bulk")]
        if target.version:
            ours.append((VERSION, target.version))
        body = message if target.version else message + NO_VERSION
        request = ShadowRequest(target, facts.method, body, (*kept, *ours), shadow.entry.timeout_s)
        on_end = functools.partial(self._ended, shadow)
        copy = ShadowCall(model, facts.request_id, request, on_end)
        copy.started(self._spawn(f"shadow of {model}", functools.partial(copy.run, self._send)))
        shadow.copies[copy] = None
        return copy

    def _ended(
        self, shadow: _Shadow, copy: ShadowCall, result: CopyResult, comparison: Comparison | None
    ) -> None:
        shadow.copies.pop(copy, None)
        self._count(shadow, copy.model, result)
        if comparison is None:
            return
        if self._is_current(shadow, copy.model):
            self._metrics.compared(copy.model, comparison)
        if result is CopyResult.DIFFERED and self._draw() < shadow.spec.report_share:
            shadow.report.keep(Difference(copy.request_id, self._wall_clock(), comparison))

    def _count(self, shadow: _Shadow, model: str, result: CopyResult) -> None:
        shadow.report.counts[result] += 1
        if self._is_current(shadow, model):
            self._metrics.calls.labels(model, result.value).inc()

    def _is_current(self, shadow: _Shadow, model: str) -> bool:
        """Whether this is still the model's shadow; series of one that is no more stay dropped."""
        return self._shadows.get(model) is shadow

    def _cancel(self, target: Target, wanted: int) -> int:
        cancelled = 0
        for shadow in self._shadows.values():
            if cancelled < wanted and shadow.report.shadow == target:
                cancelled += _drop(shadow.copies, wanted - cancelled)
        return cancelled


def _drop(copies: dict[ShadowCall, None], wanted: int) -> int:
    """End the youngest of the copies, which have done the least; how many that were."""
    chosen = list(itertools.islice(reversed(copies), wanted))
    for copy in chosen:
        copy.drop()
    return len(chosen)
