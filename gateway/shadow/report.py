"""What the comparison of one model's shadow found so far, and its form for operators.

Owns the counts and the sampled differences; they have no text of a caller. Does not own the
metrics, which say the same for all time.
"""

from __future__ import annotations

import collections
import dataclasses

from gateway.policy.shadow.copying import Target
from gateway.policy.shadow.measures import Comparison
from gateway.shadow.metrics import CopyResult
from inference_mesh.v1 import admin_pb2, policy_pb2

MAX_DIFFERENCES = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """One pair that differs. at_s: Unix time."""

    request_id: str
    at_s: float
    comparison: Comparison


class ShadowReport:
    """Owns the counts of one model's copies since its shadow was last changed."""

    def __init__(self, primary: Target, shadow: Target) -> None:
        self.primary = primary
        self.shadow = shadow
        self.counts: collections.Counter[CopyResult] = collections.Counter()
        self._differences: collections.deque[Difference] = collections.deque(maxlen=MAX_DIFFERENCES)

    @property
    def differences(self) -> tuple[Difference, ...]:
        """The latest of the sampled differences, newest first."""
        return tuple(reversed(self._differences))

    def keep(self, difference: Difference) -> None:
        """Add a sampled difference; the oldest goes where there are too many."""
        self._differences.append(difference)

    def message(self) -> admin_pb2.GetShadowReportResponse:
        """The report as AdminService answers it."""
        agreed = self.counts[CopyResult.AGREED]
        return admin_pb2.GetShadowReportResponse(
            primary=policy_pb2.Target(model=self.primary.model, version=self.primary.version),
            shadow=policy_pb2.Target(model=self.shadow.model, version=self.shadow.version),
            compared=agreed + self.counts[CopyResult.DIFFERED],
            agreed=agreed,
            dropped=self.counts[CopyResult.DROPPED],
            failed=self.counts[CopyResult.FAILED],
            differences=[
                admin_pb2.ShadowDifference(
                    request_id=one.request_id,
                    at_s=one.at_s,
                    measure=one.comparison.measure.value,
                    value=one.comparison.value,
                )
                for one in self.differences
            ],
        )
