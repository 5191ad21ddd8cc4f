"""What a measurement leaves behind: a table for people and a JSON list for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

REPORTS = Path("build") / "bench"


@dataclasses.dataclass(frozen=True)
class Figure:
    """One measured value.

    target: what it is to reach, None where none is set. holds: whether it does.
    """

    figure: str
    value: float
    command: str
    target: str | None = None
    holds: bool = True


def write_report(name: str, figures: Sequence[Figure]) -> Path:
    """Write `build/bench/NAME.json`; its path."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    path = REPORTS / f"{name}.json"
    path.write_text(json.dumps([dataclasses.asdict(figure) for figure in figures], indent=1) + "\n")
    return path


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns, the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, ["-" * width for width in widths], *rows):
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        print("  ".join(cells))
