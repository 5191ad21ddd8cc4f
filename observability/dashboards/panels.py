"""The few kinds of panels that the dashboards are made of, each with a unit and a description."""

from __future__ import annotations

import dataclasses

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    Panel,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

RATE = "$__rate_interval"
SOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
ROW_WIDTH = 24
GRAPH_HEIGHT, STAT_HEIGHT = 8, 4

PER_S = "reqps"
TOKENS_PER_S = "tokens/s"
SECONDS = units.Seconds
BYTES = units.BytesIEC
BYTES_PER_S = units.BytesPerSecondIEC
RATIO = units.PercentUnit
COUNT = units.Short
CORES = "cores"

WITH_EXEMPLARS = frozenset(
    {
        "mesh_bridge_first_event_seconds",
        "mesh_bridge_request_seconds",
        "mesh_gateway_request_seconds",
        "mesh_worker_request_seconds",
        "mesh_worker_time_to_first_token_seconds",
    }
)
"""Histograms that note the trace of a sampled call."""


@dataclasses.dataclass(frozen=True)
class Query:
    """A PromQL expression, and how its series are called in the legend.

    with_exemplars: whether the traces of single calls are shown as points beside the line.
    """

    expr: str
    legend: str
    with_exemplars: bool = False


def lines(title: str, description: str, unit: str, *queries: Query, per_row: int = 3) -> Builder[Panel]:
    """A line for each series."""
    return _graph(title, description, unit, queries, per_row)


def areas(title: str, description: str, unit: str, *queries: Query, per_row: int = 3) -> Builder[Panel]:
    """Series on top of each other: for what adds up."""
    stacking = options.StackingConfig().mode(common.StackingMode.NORMAL)
    return _graph(title, description, unit, queries, per_row).stacking(stacking).fill_opacity(30)


def limited(
    title: str, description: str, unit: str, limit: float, *queries: Query, per_row: int = 3
) -> Builder[Panel]:
    """Lines with a dashed one where it begins to be too much."""
    style = options.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
    return (
        _graph(title, description, unit, queries, per_row)
        .thresholds(_red_from(limit))
        .thresholds_style(style)
    )


def number(title: str, description: str, unit: str, expr: str, *, red_from: float) -> Builder[Panel]:
    """One number of now, red from a limit on. Six of them fill a row."""
    reduced = options.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .height(STAT_HEIGHT)
        .span(ROW_WIDTH // 6)
        .reduce_options(reduced)
        .graph_mode(common.BigValueGraphMode.NONE)
        .thresholds(_red_from(red_from))
        .with_target(_target(Query(expr, ""), "A"))
    )


def rows(title: str, description: str, unit: str, *queries: Query, per_row: int = 2) -> Builder[Panel]:
    """A table of now: a line for each series, and a column for each query, which its legend names."""
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .height(GRAPH_HEIGHT)
        .span(ROW_WIDTH // per_row)
    )
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        target = _target(query, letter).instant().format(PromQueryFormat.TABLE)
        panel = panel.with_target(target)
    names = {"Value": queries[0].legend} | {
        f"Value #{letter}": query.legend for letter, query in zip("ABCDEFGH", queries, strict=False)
    }
    organize = {"excludeByName": {"Time": True}, "renameByName": names}
    return panel.with_transformation(DataTransformerConfig(id_val="merge", options={})).with_transformation(
        DataTransformerConfig(id_val="organize", options=organize)
    )


def quantiles(metric: str, by: str, matchers: str) -> list[Query]:
    """The median and the 99th percentile of a histogram, for each value of a label."""
    buckets = f"sum by ({by}, le) (rate({metric}_bucket{{{matchers}}}[{RATE}]))"
    return [
        Query(
            f"histogram_quantile({share}, {buckets})",
            f"{{{{{by}}}}} {name}",
            with_exemplars=name == "p99" and metric in WITH_EXEMPLARS,
        )
        for name, share in (("p50", 0.5), ("p99", 0.99))
    ]


def or_zero(expr: str, there: str) -> str:
    """An expression that is 0, not empty, for what did not happen yet. there: series of the same labels."""
    return f"{expr}\nor 0 * {there}"


def or_one_zero(expr: str, there: str) -> str:
    """An expression that is 0 once, not empty, if nothing of it happened yet. there: any series."""
    return f"{expr}\nor on () 0 * {there}"


def _graph(
    title: str, description: str, unit: str, queries: tuple[Query, ...], per_row: int
) -> timeseries.Panel:
    legend = (
        options.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )
    tooltip = (
        options.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    )
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .height(GRAPH_HEIGHT)
        .span(ROW_WIDTH // per_row)
        .legend(legend)
        .tooltip(tooltip)
        .fill_opacity(8)
    )
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        panel = panel.with_target(_target(query, letter).range())
    return panel


def _target(query: Query, letter: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter)
    if query.with_exemplars:
        target = target.exemplar(exemplar=True)
    return target.datasource(SOURCE)


def _red_from(limit: float) -> ThresholdsConfig:
    steps = [Threshold(value=None, color="green"), Threshold(value=limit, color="red")]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
