"""Tells measurements at the processor's full speed from those in which it was shared.

A virtual core runs at half its speed while its sibling is busy with somebody else's work, and the
clock of CPU time does not see that. So a loop of fixed work is timed around each measurement: where
it took longer than its own best of the run, the measurement tells of the neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

STEPS = 5_000
SLACK = 1.08
"""A loop that took this many times its best in the run still counts as undisturbed."""


class Sample(NamedTuple):
    """One measurement in µs, and what a step of the loop took around it in ns: the slower of both sides."""

    spent_us: float
    loop_ns: float


def loop_ns() -> float:
    """CPU of one step of the loop, in ns."""
    started_s, value = time.process_time(), 1
    for number in range(STEPS):
        value = (value * 3 + number) % 1_000_003
    return (time.process_time() - started_s) / STEPS * 1e9


def at_full_speed(samples: Sequence[Sample]) -> list[Sample]:
    """Those around which the loop was about as quick as ever."""
    best_ns = min(one.loop_ns for one in samples)
    return [one for one in samples if one.loop_ns <= SLACK * best_ns]


class Clock:
    """Owns the loop's time before the next measurement."""

    def __init__(self) -> None:
        self._before_ns = loop_ns()

    def sample(self, spent_us: float) -> Sample:
        """A measurement that just ended, and began after the last one."""
        after_ns = loop_ns()
        taken = Sample(spent_us, max(self._before_ns, after_ns))
        self._before_ns = after_ns
        return taken
