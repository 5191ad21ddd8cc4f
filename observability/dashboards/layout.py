"""What every dashboard has alike: its datasource and variables, links to the others, no editing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    Panel,
    VariableRefresh,
    VariableSort,
)

from observability.dashboards.panels import SOURCE

TAG = "inference-mesh"
REFRESH = "30s"


@dataclasses.dataclass(frozen=True)
class Variable:
    """A choice above the panels: the values of a label. name: the label's too; series: those that have it."""

    name: str
    series: str
    description: str


@dataclasses.dataclass(frozen=True)
class Row:
    """Panels under one title."""

    title: str
    panels: Sequence[Builder[Panel]]


@dataclasses.dataclass(frozen=True)
class Page:
    """One dashboard. uid: what links and alerts name."""

    uid: str
    title: str
    description: str
    variables: Sequence[Variable]
    rows: Sequence[Row]

    def text(self) -> str:
        """The JSON that Grafana reads."""
        builder = (
            build.Dashboard(self.title)
            .uid(self.uid)
            .description(self.description)
            .tags([TAG])
            .readonly()
            .timezone("browser")
            .time("now-1h", "now")
            .refresh(REFRESH)
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .link(_links())
            .with_variable(_datasource())
        )
        for variable in self.variables:
            builder = builder.with_variable(_choice(variable))
        for row in self.rows:
            builder = builder.with_row(build.Row(row.title))
            for panel in row.panels:
                builder = builder.with_panel(panel)
        document = builder.build()
        for number, one in enumerate(document.panels or [], start=1):
            one.id_val = number
        return json.dumps(document, cls=JSONEncoder, sort_keys=True, indent=1) + "\n"


def _links() -> build.DashboardLink:
    return (
        build.DashboardLink("Inference mesh")
        .type(DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .keep_time(True)
        .include_vars(True)
    )


def _datasource() -> build.DatasourceVariable:
    return build.DatasourceVariable("datasource").label("Datasource").type("prometheus")


def _choice(variable: Variable) -> build.QueryVariable:
    return (
        build.QueryVariable(variable.name)
        .label(variable.name.title())
        .description(variable.description)
        .datasource(SOURCE)
        .query(f"label_values({variable.series}, {variable.name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
    )
