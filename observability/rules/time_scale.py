"""How long the windows of the rules are: as they are run, or shorter, so that a test sees them fire."""

from __future__ import annotations

import dataclasses

UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


@dataclasses.dataclass(frozen=True)
class TimeScale:
    """factor: what durations are multiplied by; shortest_s, shortest_window_s: what none falls below.

    A window has a bound of its own, as it must hold several scrapes.
    """

    factor: float = 1.0
    shortest_s: float = 0.0
    shortest_window_s: float = 0.0

    def duration(self, seconds: float) -> str:
        """A wait or an interval as rule files write it, e.g. "5m" of 300."""
        return _written(max(seconds * self.factor, self.shortest_s))

    def window(self, seconds: float) -> str:
        """The range of a query."""
        return _written(max(seconds * self.factor, self.shortest_window_s))


def _written(seconds: float) -> str:
    milliseconds = max(1, round(seconds * 1000))
    unit = next(unit for unit, size in UNITS_MS.items() if milliseconds % size == 0)
    return f"{milliseconds // UNITS_MS[unit]}{unit}"


REAL_TIME = TimeScale()
