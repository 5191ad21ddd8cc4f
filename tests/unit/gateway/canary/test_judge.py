from __future__ import annotations

import random

import pytest

from gateway.policy.routing.canary import (
    CanaryPhase,
    Progress,
    Verdict,
    VerdictKind,
    choice_of,
    judge,
    moved,
)
from gateway.policy.routing.samples import CallResult, SampleStats
from inference_mesh.config.model_traffic import CanarySpec

SPEC = CanarySpec.model_validate(
    {
        "version": "2",
        "steps": [{"weight": 5, "for_s": 60}, {"weight": 50, "for_s": 60}],
        "guards": {"min_samples": 50, "error_ratio": 0.05, "p99_ratio": 2, "first_token_ratio": 2},
    }
)


def calls(
    good: int, failed: int = 0, duration_s: float = 0.1, first_token_s: float | None = None
) -> SampleStats:
    stats = SampleStats()
    for _ in range(good):
        stats.note(CallResult.GOOD, duration_s, first_token_s)
    for _ in range(failed):
        stats.note(CallResult.FAULT, duration_s, None)
    return stats


STABLE = calls(950)


def test_a_canary_that_keeps_its_guards_goes_on_when_its_step_is_over() -> None:
    assert judge(SPEC, 0, 59.9, calls(50), STABLE).kind is VerdictKind.STAY
    assert judge(SPEC, 0, 60.0, calls(50), STABLE).kind is VerdictKind.ADVANCE
    assert judge(SPEC, 1, 60.0, calls(50), STABLE).kind is VerdictKind.PROMOTE


def test_too_few_calls_are_judged_neither_well_nor_badly() -> None:
    assert judge(SPEC, 1, 1e6, calls(49), STABLE).kind is VerdictKind.STAY
    assert judge(SPEC, 1, 1e6, calls(0, failed=49), STABLE).kind is VerdictKind.STAY


@pytest.mark.parametrize(
    ("canary", "stable"),
    [
        (calls(40, failed=10), calls(950)),
        (calls(0, failed=50), calls(0)),
        (calls(50, duration_s=0.21), calls(950)),
        (calls(50, first_token_s=0.09), calls(950, first_token_s=0.03)),
    ],
)
def test_a_broken_guard_rolls_back_before_the_step_is_over(canary: SampleStats, stable: SampleStats) -> None:
    verdict = judge(SPEC, 0, 0.0, canary, stable)
    assert verdict.kind is VerdictKind.ROLL_BACK
    assert "over" in verdict.reason


def test_errors_that_the_stable_version_has_too_are_not_the_canarys() -> None:
    failing = calls(800, failed=200)
    assert judge(SPEC, 0, 60, calls(40, failed=10), failing).kind is VerdictKind.ADVANCE
    assert judge(SPEC, 0, 60, calls(30, failed=20), failing).kind is VerdictKind.ROLL_BACK


def test_one_slow_call_neither_rolls_back_nor_lets_the_canary_go_on() -> None:
    canary = calls(49)
    canary.note(CallResult.GOOD, 5.0, None)
    assert judge(SPEC, 0, 60, canary, STABLE).kind is VerdictKind.STAY
    canary.merge(calls(100))
    assert judge(SPEC, 0, 60, canary, STABLE).kind is VerdictKind.ADVANCE


def test_times_are_not_compared_with_a_few_calls() -> None:
    assert judge(SPEC, 0, 60, calls(50, duration_s=9), calls(5)).kind is VerdictKind.ADVANCE


def test_a_version_that_is_the_same_is_rarely_rolled_back_by_chance() -> None:
    """Heavy tails, few calls, guards at their defaults."""
    spec = CanarySpec(version="2")
    rng = random.Random(7)

    def drawn(count: int) -> SampleStats:
        stats = SampleStats()
        for _ in range(count):
            stats.note(CallResult.GOOD, rng.lognormvariate(-1, 0.8), rng.lognormvariate(-3, 0.8))
        return stats

    verdicts = [judge(spec, 0, 0, drawn(50), drawn(950)).kind for _ in range(200)]
    assert verdicts.count(VerdictKind.ROLL_BACK) <= 4


def test_verdicts_move_a_canary_on_and_each_move_is_a_revision() -> None:
    progress = Progress()
    assert moved(progress, Verdict(VerdictKind.STAY, "")) is progress
    second = moved(progress, Verdict(VerdictKind.ADVANCE, "good"))
    assert (second.step, second.revision, second.phase) == (1, 2, CanaryPhase.RUNNING)
    ended = moved(second, Verdict(VerdictKind.ROLL_BACK, "bad"))
    assert (ended.step, ended.revision, ended.phase, ended.reason) == (1, 3, CanaryPhase.ROLLED_BACK, "bad")


@pytest.mark.parametrize(
    ("progress", "weight"),
    [
        (None, 0.0),
        (Progress(), 5.0),
        (Progress(step=1), 50.0),
        (Progress(CanaryPhase.PROMOTED, 1), 100.0),
        (Progress(CanaryPhase.ROLLED_BACK, 1), 0.0),
    ],
)
def test_the_share_follows_the_progress(progress: Progress | None, weight: float) -> None:
    assert choice_of(SPEC, progress).weight == weight
