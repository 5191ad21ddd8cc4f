"""Rules as values, and the YAML that Prometheus reads."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import yaml

from observability.rules.time_scale import TimeScale

RUNBOOK = "observability/runbook.md"

Severity = Literal["page", "ticket"]
"""page: somebody is woken up; ticket: somebody looks at it on a working day."""


@dataclasses.dataclass(frozen=True)
class Recording:
    """A series that is computed beforehand. name: `level:metric:operation`."""

    name: str
    expr: str

    def document(self, scale: TimeScale) -> dict[str, Any]:
        """The entry of a rule file."""
        return {"record": self.name, "expr": _written(self.expr)}


@dataclasses.dataclass(frozen=True)
class Alert:
    """What somebody is told of. wait_s: how long it must hold; dashboard: where to look first."""

    name: str
    severity: Severity
    expr: str
    wait_s: float
    summary: str
    description: str
    dashboard: str
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def document(self, scale: TimeScale) -> dict[str, Any]:
        """The entry of a rule file."""
        return {
            "alert": self.name,
            "expr": _written(self.expr),
            "for": scale.duration(self.wait_s),
            "labels": {"severity": self.severity, **self.labels},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "dashboard": self.dashboard,
                "runbook_url": f"{RUNBOOK}#{self.name.lower()}",
            },
        }


@dataclasses.dataclass(frozen=True)
class Group:
    """Rules that are evaluated one after the other."""

    name: str
    interval_s: float
    rules: Sequence[Recording | Alert]

    def document(self, scale: TimeScale) -> dict[str, Any]:
        """The group of a rule file."""
        rules = [rule.document(scale) for rule in self.rules]
        return {"name": self.name, "interval": scale.duration(self.interval_s), "rules": rules}


class _Text(str):
    """A text that YAML shows as a block."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """Keeps the order of keys and the lines of expressions."""


_Dumper.add_representer(
    _Text, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
)


def rule_file(groups: Sequence[Group], scale: TimeScale, header: str) -> str:
    """The text of a rule file."""
    document = {"groups": [group.document(scale) for group in groups]}
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)
    return header + text


def _written(expr: str) -> str:
    text = textwrap.dedent(expr).strip()
    return _Text(f"{text}\n") if "\n" in text else text
