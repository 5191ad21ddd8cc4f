"""The metrics of the shadows. `model` is a name of the registry that has a shadow."""

from __future__ import annotations

import contextlib
import enum
import math

from prometheus_client import CollectorRegistry, Counter, Histogram

from gateway.policy.shadow.measures import Comparison, Measure

DIFFERENCE_BUCKETS = (0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1, 10, 100)
"""Fit for measures that lie between 0 and 1 as well as for differences of any size."""


class CopyResult(enum.Enum):
    """What became of a copy.

    dropped: not made, or cancelled, to leave room for callers. unpaired: the caller's own call
    brought no answer to compare with. failed: the shadow's brought none, or one of another kind.
    """

    AGREED = "agreed"
    DIFFERED = "differed"
    DROPPED = "dropped"
    FAILED = "failed"
    UNPAIRED = "unpaired"


class ShadowMetrics:
    """Owns the series of this room in the gateway's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            "mesh_gateway_shadow_calls_total",
            "Calls that were chosen to be copied, by what became of the copy.",
            ("model", "result"),
            registry=registry,
        )
        self.difference = Histogram(
            "mesh_gateway_shadow_difference",
            "How far the shadow's answer is from the caller's, by measure; what has no number is left out.",
            ("model", "measure"),
            buckets=DIFFERENCE_BUCKETS,
            registry=registry,
        )

    def compared(self, model: str, comparison: Comparison) -> None:
        """Count one pair."""
        if math.isfinite(comparison.value):
            self.difference.labels(model, comparison.measure.value).observe(comparison.value)

    def forget(self, model: str) -> None:
        """Drop the series of a shadow that is no more."""
        for result in CopyResult:
            with contextlib.suppress(KeyError):
                self.calls.remove(model, result.value)
        for measure in Measure:
            with contextlib.suppress(KeyError):
                self.difference.remove(model, measure.value)
