"""Whether a canary goes on, and how far it is. Pure.

Owns the guards and the steps. The samples come from `samples`; who calls the judge, and what is
done with the verdict, is `gateway.canary`'s.
"""

from __future__ import annotations

import dataclasses
import enum

from gateway.policy.routing.resolve import CanaryChoice
from gateway.policy.routing.samples import SampleStats, Sketch
from inference_mesh.config.model_traffic import CanaryGuards, CanarySpec

SURE_Z = 2.33
"""A quantile breaks its guard where chance explains it in fewer than 1 of 100 cases."""


class CanaryPhase(enum.Enum):
    """How far a canary is."""

    RUNNING = "running"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"


class VerdictKind(enum.Enum):
    """What is to be done with a canary."""

    STAY = "stay"
    ADVANCE = "advance"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done, and why, in a sentence for operators."""

    kind: VerdictKind
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """How far a canary is. step: from 0. revision: counts the changes, from 1; the higher one is right."""

    phase: CanaryPhase = CanaryPhase.RUNNING
    step: int = 0
    revision: int = 1
    reason: str = "began"


def judge(
    spec: CanarySpec, step: int, step_age_s: float, canary: SampleStats, stable: SampleStats
) -> Verdict:
    """What is to be done with a canary that runs.

    canary, stable: what both sides did in the step. Nothing is judged before the canary has
    `min_samples` calls; times are compared once the stable version has as many, which it has
    not where it gets next to nothing.
    """
    guards = spec.guards
    if canary.requests < guards.min_samples:
        return Verdict(VerdictKind.STAY, f"{canary.requests} of {guards.min_samples} calls")
    broken = _broken_guard(guards, canary, stable)
    if broken is not None:
        return Verdict(VerdictKind.ROLL_BACK, broken)
    doubt = _doubt(guards, canary, stable)
    if doubt is not None:
        return Verdict(VerdictKind.STAY, doubt)
    left_s = spec.steps[step].for_s - step_age_s
    if left_s > 0:
        return Verdict(VerdictKind.STAY, f"keeps its guards; the step lasts {left_s:.0f} s more")
    kept = f"step {step + 1} kept its guards over {canary.requests} calls"
    if step + 1 >= len(spec.steps):
        return Verdict(VerdictKind.PROMOTE, kept)
    return Verdict(VerdictKind.ADVANCE, kept)


def moved(progress: Progress, verdict: Verdict) -> Progress:
    """How far a canary is after a verdict."""
    if verdict.kind is VerdictKind.STAY:
        return progress
    step = progress.step + 1 if verdict.kind is VerdictKind.ADVANCE else progress.step
    phases = {VerdictKind.PROMOTE: CanaryPhase.PROMOTED, VerdictKind.ROLL_BACK: CanaryPhase.ROLLED_BACK}
    phase = phases.get(verdict.kind, CanaryPhase.RUNNING)
    return Progress(phase, step, progress.revision + 1, verdict.reason)


def choice_of(spec: CanarySpec, progress: Progress | None) -> CanaryChoice:
    """What the canary gets. progress: None = not known, and then it gets nothing."""
    if progress is None or progress.phase is CanaryPhase.ROLLED_BACK:
        return CanaryChoice(spec.version, 0.0)
    if progress.phase is CanaryPhase.PROMOTED:
        return CanaryChoice(spec.version, 100.0)
    return CanaryChoice(spec.version, spec.steps[min(progress.step, len(spec.steps) - 1)].weight)


def _broken_guard(guards: CanaryGuards, canary: SampleStats, stable: SampleStats) -> str | None:
    """Which guard is surely broken, or None."""
    allowed = guards.error_ratio + stable.error_ratio
    if canary.error_ratio > allowed:
        return f"error ratio {canary.error_ratio:.3g} is over {allowed:.3g}"
    for name, share, limit_s, times in _times(guards, canary, stable):
        surely_s = times.surely_above(share, SURE_Z)
        if surely_s is not None and surely_s > limit_s:
            return f"{name} {surely_s:.3g} s is over {limit_s:.3g} s"
    return None


def _doubt(guards: CanaryGuards, canary: SampleStats, stable: SampleStats) -> str | None:
    """Which guard would be broken if these few calls were all, or None."""
    for name, share, limit_s, times in _times(guards, canary, stable):
        maybe_s = times.quantile(share)
        if maybe_s is not None and maybe_s > limit_s:
            return f"{name} {maybe_s:.3g} s may be over {limit_s:.3g} s; more calls will tell"
    return None


def _times(
    guards: CanaryGuards, canary: SampleStats, stable: SampleStats
) -> list[tuple[str, float, float, Sketch]]:
    """Each time that can be compared: its name, the quantile, its limit in seconds, the canary's times."""
    compared = (
        ("99th percentile", 0.99, guards.p99_ratio, stable.durations, canary.durations),
        ("median first token", 0.5, guards.first_token_ratio, stable.first_tokens, canary.first_tokens),
    )
    found = []
    for name, share, ratio, theirs, ours in compared:
        stable_s = theirs.quantile(share)
        if stable_s is not None and theirs.count >= guards.min_samples:
            found.append((name, share, stable_s * ratio, ours))
    return found
