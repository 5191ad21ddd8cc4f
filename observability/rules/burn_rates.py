"""Alerts on how fast the objectives are used up: over two windows each, per model."""

from __future__ import annotations

from collections.abc import Iterator

from observability.rules.objectives import (
    BURN_WINDOWS,
    LEAST_RATE,
    OBJECTIVES,
    WINDOWS_S,
    BurnWindow,
    Objective,
)
from observability.rules.rule import Alert, Group
from observability.rules.time_scale import TimeScale

SPEEDS = {"page": "Fast", "ticket": "Slow"}
SOON = {"page": "within days", "ticket": "within weeks"}
BAD = {"availability": "failed or were refused for lack of room", "latency": "took too long to answer"}


def burn_rate_groups(scale: TimeScale) -> list[Group]:
    """The alerts of all objectives."""
    alerts = [_alert(one, window, scale) for one in OBJECTIVES for window in BURN_WINDOWS]
    return [Group("mesh_burn_rates", 30, alerts)]


def _alert(objective: Objective, window: BurnWindow, scale: TimeScale) -> Alert:
    return Alert(
        name=f"Mesh{objective.name.title()}Burns{SPEEDS[window.severity]}",
        severity=window.severity,
        expr="\n".join(_conditions(objective, window, scale)),
        wait_s=window.wait_s,
        summary=(f"{{{{ $labels.model }}}} uses up its {objective.name} objective {SOON[window.severity]}"),
        description=(
            f"{{{{ $value | humanizePercentage }}}} of its calls {BAD[objective.name]} in the last "
            f"{window.long}, and too many in the last {window.short}. {objective.budget:.1%} are allowed "
            f"over 30 days; so fast, they are used up in less than {30 / window.factor:.2g}."
        ),
        dashboard="/d/mesh-model?var-model={{ $labels.model }}",
        labels={"objective": objective.name, "window": window.long},
    )


def _conditions(objective: Objective, window: BurnWindow, scale: TimeScale) -> Iterator[str]:
    limit = f"{window.factor:g} * {objective.budget:g}"
    yield f"{objective.ratio(window.long)} > {limit}"
    yield f"and {objective.ratio(window.short)} > {limit}"
    duration = scale.window(WINDOWS_S[window.long])
    yield f"and avg_over_time({objective.all}:rate5m[{duration}]) > {LEAST_RATE:g}"
