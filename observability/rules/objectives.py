"""What the mesh promises of each model, and how fast the promise may be used up.

Source of the windows and factors: Google, The Site Reliability Workbook, chapter 5, "Alerting on SLOs".
"""

from __future__ import annotations

import dataclasses

from observability.rules.rule import Severity

SLOW_S = "2.5"
"""Seconds, a bucket's bound: what is slow of a first token, and of the whole of an answer without one."""

LEAST_RATE = 0.01
"""Calls per second below which a ratio says nothing: 36 in an hour."""

INFERENCE = 'method=~"Infer|InferStream|ModelInfer|ModelStreamInfer",model!="unknown"'
UNARY = 'method=~"Infer|ModelInfer",model!="unknown"'
FAULTS = 'code=~"UNAVAILABLE|INTERNAL|UNKNOWN|DATA_LOSS|DEADLINE_EXCEEDED"'
"""The codes that are the mesh's fault; refusals of its queue are counted beside them."""

WINDOWS_S = {"5m": 300, "30m": 1800, "1h": 3600, "2h": 7200, "6h": 21600, "1d": 86400, "3d": 259200}


@dataclasses.dataclass(frozen=True)
class Objective:
    """A promise over 30 days. bad and all: the series of what counts against it, and of everything."""

    name: str
    budget: float
    bad: str
    all: str

    def ratio(self, window: str) -> str:
        """The series of the share that was bad in a window."""
        return f"{self.bad}:ratio_rate{window}"


@dataclasses.dataclass(frozen=True)
class BurnWindow:
    """factor: how many times faster than the budget allows; both windows must show it."""

    long: str
    short: str
    factor: float
    severity: Severity
    wait_s: float


AVAILABILITY = Objective("availability", 0.001, "model:request_errors", "model:requests")
LATENCY = Objective("latency", 0.01, "model:slow_requests", "model:timed_requests")
OBJECTIVES = (AVAILABILITY, LATENCY)

BURN_WINDOWS = (
    BurnWindow("1h", "5m", 14.4, "page", 120),
    BurnWindow("6h", "30m", 6, "page", 900),
    BurnWindow("1d", "2h", 3, "ticket", 3600),
    BurnWindow("3d", "6h", 1, "ticket", 10800),
)
