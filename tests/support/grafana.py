"""What Grafana asks Prometheus for a dashboard: its queries, with the values of its variables put in.

Owns the reading of a dashboard's JSON as Grafana reads it. Whether an answer is right is the test's matter.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from scripts.check_alerts import panels_of
from tests.support.prometheus import Prometheus

VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")
LABEL_VALUES = re.compile(r"^label_values\((.*), (\w+)\)$")
SPECIAL = re.compile(r"[\\^$*{}\[\]+?.()|]")
RANGE_S, STEP_S = 30, 1
BUILT_IN = {"__rate_interval": "10s", "__range": f"{RANGE_S}s"}
"""The first is four scrapes or more: Grafana's own rule, with a margin for scrapes that come late."""


class Question(NamedTuple):
    """One query of a panel. is_instant: for a table, which shows the values of now."""

    dashboard: str
    panel: str
    ref: str
    expr: str
    is_instant: bool


def documents(folder: Path) -> dict[str, dict[str, Any]]:
    """Every dashboard of a folder, by its uid."""
    read = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return {document["uid"]: document for document in read}


def questions(document: Mapping[str, Any]) -> list[Question]:
    """Every query of a dashboard."""
    return [
        Question(
            document["uid"],
            panel["title"],
            target["refId"],
            target["expr"],
            is_instant=bool(target.get("instant")) and not target.get("range"),
        )
        for panel in panels_of(dict(document))
        for target in panel["targets"]
    ]


def choices(server: Prometheus, document: Mapping[str, Any]) -> dict[str, str]:
    """What stands for each variable when all that it offers is chosen one by one.

    A variable that offers nothing is left out.
    """
    chosen: dict[str, str] = {}
    for variable in document["templating"]["list"]:
        if variable["type"] != "query":
            continue
        found = LABEL_VALUES.match(str(variable["query"]))
        assert found, variable["query"]
        values = server.label_values(found[2], interpolated(found[1], chosen))
        if values:
            chosen[variable["name"]] = f"({'|'.join(map(_escaped, values))})"
    return chosen


def interpolated(expr: str, chosen: Mapping[str, str]) -> str:
    """A query with values instead of variables; of a variable without a value, its name stays."""
    known = {**BUILT_IN, **chosen}
    return VARIABLE.sub(lambda found: known.get(found[1] or found[2], found[0]), expr)


def finite_series(server: Prometheus, question: Question, chosen: Mapping[str, str]) -> list[dict[str, str]]:
    """Labels of the series in the answer that have a finite value, which a panel can draw."""
    expr = interpolated(question.expr, chosen)
    if question.is_instant:
        answer = server.query(expr)
        samples = [(one["metric"], [one["value"]]) for one in answer]
    else:
        answer = server.query_range(expr, RANGE_S, STEP_S)
        samples = [(one["metric"], one["values"]) for one in answer]
    return [labels for labels, values in samples if any(math.isfinite(float(value)) for _, value in values)]


def _escaped(value: str) -> str:
    """A value inside a regular expression inside a string, as Grafana writes it for Prometheus."""
    return SPECIAL.sub(lambda found: f"\\\\{found[0]}", value)
