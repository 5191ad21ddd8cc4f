"""Has promtool check what Prometheus and Grafana read: configuration, rules and their unit tests, queries."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PROMETHEUS = ROOT / "observability" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
TESTS = sorted((ROOT / "observability" / "tests").glob("*.yml"))
DASHBOARDS = sorted((ROOT / "observability" / "grafana" / "dashboards").glob("*.json"))

DURATIONS = {"$__rate_interval": "5m", "$__range": "1h"}
VARIABLE = re.compile(r"\$(?:\{\w+\}|\w+)")


class CheckError(Exception):
    """Promtool is not there, or found something wrong; the text is what it said."""


def main() -> int:
    """Print what is wrong; 0 if nothing is."""
    try:
        for check in (check_configuration, check_rules, check_queries):
            check()
        for test in TESTS:
            check_test(test)
    except CheckError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def check_configuration() -> None:
    """Raises CheckError if prometheus.yml is wrong. Debian's promtool knows no discovery in Kubernetes."""
    document = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    document["rule_files"] = [str(path) for path in RULES]
    for job in document["scrape_configs"]:
        job.pop("kubernetes_sd_configs", None)
    _promtool_on("prometheus.yml", document, "check", "config", "--syntax-only")


def check_rules() -> None:
    """Raises CheckError if a rule is wrong, or written twice."""
    _promtool("check", "rules", "--lint=all", "--lint-fatal", *map(str, RULES))


def check_test(path: Path) -> None:
    """Run one file of unit tests. Raises CheckError if an alert fires wrongly, or not."""
    _promtool("test", "rules", str(path))


def check_queries() -> None:
    """Raises CheckError if the query of a panel is not PromQL."""
    rules = [
        {"record": f"query:{number}", "expr": plain(expr)}
        for number, (_, expr) in enumerate(panel_queries(DASHBOARDS))
    ]
    document = {"groups": [{"name": "queries", "rules": rules}]}
    _promtool_on("queries.yml", document, "check", "rules", "--lint=none")


def panel_queries(dashboards: list[Path]) -> Iterator[tuple[str, str]]:
    """Dashboard and panel, and a query of it."""
    for path in dashboards:
        for panel in panels_of(json.loads(path.read_text())):
            for target in panel.get("targets", []):
                yield f"{path.stem}: {panel['title']}", target["expr"]


def panels_of(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels of a dashboard that show something: no rows."""
    rows = [panel for panel in dashboard["panels"] if panel["type"] == "row"]
    found = dashboard["panels"] + [panel for row in rows for panel in row.get("panels", [])]
    return [panel for panel in found if panel["type"] != "row"]


def plain(expr: str) -> str:
    """A query as Grafana sends it, for all values of its variables."""
    for name, value in DURATIONS.items():
        expr = expr.replace(name, value)
    return VARIABLE.sub(".+", expr)


def _promtool_on(name: str, document: dict[str, Any], *arguments: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(yaml.safe_dump(document))
        _promtool(*arguments, str(path))


def _promtool(*arguments: str) -> None:
    try:
        done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CheckError("promtool is missing; scripts/apt_packages.sh installs it") from None
    if done.returncode != 0:
        raise CheckError(f"promtool {' '.join(arguments)}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
