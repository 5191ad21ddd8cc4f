"""When a replica that seems healthy is left out all the same, and for how long. Pure.

A single call that it could not take leaves it out for a moment. Failures in a row, or silence,
eject it for longer each time, as long as most replicas stay in. One that does not even say that
it is healthy while it works may hang or just have a single thread: it is set aside until it does.
Source: Envoy's outlier detection and panic threshold.
"""

from __future__ import annotations

import enum
import math

FAILURES_IN_A_ROW = 3
FIRST_EJECTION_S, LONGEST_EJECTION_S = 2.0, 60.0
EJECTION_FORGOTTEN_AFTER_S = 30.0
STALL_S = 2.0
"""How long a silent replica is set aside; it is asked again sooner."""
MAX_EJECTED_SHARE = 0.5
PANIC_SHARE = 0.5


class Fault(enum.Enum):
    """What was wrong with an attempt, seen from its replica.

    REFUSED: it said that it is unavailable. LOST: the connection broke, or the replica counts as
    gone. HUNG: it kept a stream waiting too long. FAILED: it answered with an error of its own.
    """

    REFUSED = "refused"
    LOST = "lost"
    HUNG = "hung"
    FAILED = "failed"


class Conduct:
    """Owns how one replica behaved of late."""

    __slots__ = (
        "_ejections",
        "_failures",
        "_left_out_until_s",
        "_out_since_s",
        "_stalled_since_s",
        "_stalled_until_s",
        "ejected_until_s",
    )

    def __init__(self) -> None:
        self.ejected_until_s = -math.inf
        self._left_out_until_s = -math.inf
        self._out_since_s = -math.inf
        self._stalled_since_s = math.inf
        self._stalled_until_s = -math.inf
        self._failures = 0
        self._ejections = 0

    @property
    def out_until_s(self) -> float:
        """From when on it is in again, as far as is known."""
        return max(self._left_out_until_s, self._stalled_until_s, self.ejected_until_s)

    def is_ejected(self, now_s: float) -> bool:
        """Whether it is out for longer, or set aside."""
        return now_s < self.ejected_until_s or now_s < self._stalled_until_s

    def is_out(self, now_s: float) -> bool:
        """Whether it is out, be it for a moment or for longer."""
        return now_s < self._left_out_until_s or self.is_ejected(now_s)

    def succeed(self) -> None:
        """Note an answer."""
        self._failures = 0
        self._stalled_since_s = math.inf

    def is_news(self, started_s: float) -> bool:
        """Whether the failure of an attempt that began then is to be noted.

        When a replica dies, all of its calls fail: those that began before it was left out, or
        before it came back, tell nothing new.
        """
        return started_s > self._out_since_s

    def fail(self, fault: Fault) -> bool:
        """Note a failed attempt; whether an ejection is due."""
        self._failures += 1
        return fault is Fault.HUNG or self._failures >= FAILURES_IN_A_ROW

    def stall(self, now_s: float) -> float:
        """Set it aside: it is silent while it works. Seconds since it first was, without an answer."""
        self._stalled_since_s = min(self._stalled_since_s, now_s)
        self._stalled_until_s = now_s + STALL_S
        return now_s - self._stalled_since_s

    def speak(self) -> None:
        """It says again how it is: whoever was set aside is in at once."""
        self._stalled_since_s, self._stalled_until_s = math.inf, -math.inf

    def leave_out(self, now_s: float, for_s: float) -> None:
        """Leave it out for a moment."""
        self._left_out_until_s = max(self._left_out_until_s, now_s + for_s)
        self._out_since_s = now_s

    def eject(self, now_s: float) -> None:
        """Leave it out, for longer each time; an ejection is forgotten after a while."""
        since_s = max(0.0, now_s - self.ejected_until_s)
        forgotten = self._ejections if math.isinf(since_s) else int(since_s / EJECTION_FORGOTTEN_AFTER_S)
        self._ejections = max(0, self._ejections - forgotten) + 1
        self.ejected_until_s = now_s + min(LONGEST_EJECTION_S, FIRST_EJECTION_S * self._ejections)
        self._out_since_s = now_s
        self._failures = 0

    def come_back(self, now_s: float) -> None:
        """It was away and is healthy again; how often it was ejected is not forgotten."""
        self._failures = 0
        self._out_since_s = now_s
        self._left_out_until_s = -math.inf


def may_eject(ejected: int, replicas: int) -> bool:
    """Whether one more of so many replicas may be ejected."""
    return ejected + 1 <= replicas * MAX_EJECTED_SHARE


def is_panic(steady: int, replicas: int) -> bool:
    """Whether so few replicas are healthy and not ejected that ejections no longer count."""
    return steady < replicas * PANIC_SHARE
