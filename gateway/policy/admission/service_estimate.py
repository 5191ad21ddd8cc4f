"""How long the calls of a model take, learnt from those that ended.

Owns moving means: of the time and the cost of all calls, which tell how fast a queue moves, and
of the time of calls of about the same cost, which tells how long one call will take. Source of
mean and deviation: Jacobson 1988, Congestion Avoidance and Control; RFC 6298.
"""

from __future__ import annotations

import dataclasses

GAIN = 0.05
"""Weight of the newest call in the means of all calls."""
BUCKET_GAIN = 0.1
"""Weight of the newest call among those of about its cost."""
DEVIATIONS = 2.0
"""How far over the mean a call's time is taken to be, so that most that start also end in time."""
BUCKETS = 40


@dataclasses.dataclass(slots=True)
class _Bucket:
    """Calls whose costs lie between two powers of two."""

    mean_s: float
    deviation_s: float


class ServiceEstimate:
    """Owns what is known of the time that calls take; nothing at first."""

    def __init__(self) -> None:
        self.mean_s = 0.0
        self._mean_cost = 0.0
        self._count = 0
        self._buckets: list[_Bucket | None] = [None] * BUCKETS

    @property
    def seconds_for_cost(self) -> float:
        """Seconds that one place in flight needs for one token; 0 = not known yet."""
        return self.mean_s / self._mean_cost if self._count else 0.0

    def seconds_of(self, cost: int) -> float:
        """Seconds in which most calls of this cost end; 0 = not known yet."""
        bucket = self._buckets[_index(cost)]
        if bucket is None:
            return min(self.mean_s, cost * self.seconds_for_cost)
        return bucket.mean_s + DEVIATIONS * bucket.deviation_s

    def observe(self, cost: int, duration_s: float) -> None:
        """Learn from a call that ended by itself."""
        self.observe_cut_off(cost, duration_s)
        index = _index(cost)
        bucket = self._buckets[index]
        if bucket is None:
            self._buckets[index] = _Bucket(duration_s, duration_s / 2)
            return
        error_s = duration_s - bucket.mean_s
        bucket.mean_s += BUCKET_GAIN * error_s
        bucket.deviation_s += BUCKET_GAIN * (abs(error_s) - bucket.deviation_s)

    def observe_cut_off(self, cost: int, duration_s: float) -> None:
        """Learn from a call that its deadline ended: it held its place, but would have gone on."""
        self._count += 1
        gain = max(GAIN, 1 / self._count)
        self.mean_s += gain * (duration_s - self.mean_s)
        self._mean_cost += gain * (cost - self._mean_cost)


def _index(cost: int) -> int:
    return min(cost.bit_length(), BUCKETS - 1)
