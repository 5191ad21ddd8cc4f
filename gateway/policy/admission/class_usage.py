"""How much of a target each class used lately, which tells what the classes above leave to one.

Owns a decaying sum of the time that ended calls were in flight, for each class.
"""

from __future__ import annotations

import math

from gateway.policy.facts import Priority

WINDOW_S = 30.0
"""What was used so long ago counts for little (1/e)."""
LEAST_SHARE = 0.01
"""Of the target, for a class to which the others leave nothing."""


class ClassUsage:
    """Owns what is known of the classes' use of one target."""

    def __init__(self) -> None:
        self._used_s = [0.0] * len(Priority)
        self._weight_s = 0.0
        self._as_of_s: float | None = None

    def observe(self, priority: Priority, started_s: float, now_s: float) -> None:
        """Count a call that ended."""
        if self._as_of_s is None:
            self._as_of_s = started_s
        self.decay(now_s)
        self._used_s[priority] += now_s - started_s

    def decay(self, now_s: float) -> None:
        """Let the time pass for what was counted."""
        if self._as_of_s is None or now_s <= self._as_of_s:
            return
        kept = math.exp((self._as_of_s - now_s) / WINDOW_S)
        self._as_of_s = now_s
        self._weight_s = self._weight_s * kept + WINDOW_S * (1 - kept)
        self._used_s = [used_s * kept for used_s in self._used_s]

    def share_left(self, priority: Priority, capacity: int) -> float:
        """Share of the target that the classes above leave to this one, above 0, at most 1."""
        if priority is Priority.HIGH or not self._weight_s:
            return 1.0
        used = sum(self._used_s[:priority]) / self._weight_s
        return max(LEAST_SHARE, 1 - used / max(1, capacity))
