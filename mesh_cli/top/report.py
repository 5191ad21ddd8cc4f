"""One refresh of `mesh top`: the rows in their order, and how the processes were read.

Pure; shows nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mesh_cli.top.cells import printable
from mesh_cli.top.change import Reading
from mesh_cli.top.choices import Grouping, SortKey
from mesh_cli.top.rows import rows_of
from mesh_cli.top.traffic import Row

MAX_ROWS = 500
MAX_NOTE = 200


FIELDS = {
    SortKey.REQUESTS: "requests_per_s",
    SortKey.ERRORS: "errors_per_s",
    SortKey.P50: "p50_s",
    SortKey.P99: "p99_s",
    SortKey.TTFT: "first_token_p50_s",
    SortKey.IN_FLIGHT: "in_flight",
    SortKey.QUEUE: "queue_depth",
    SortKey.TOKENS: "completion_tokens_per_s",
    SortKey.KV: "kv_cache_usage_ratio",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What is shown at once. at_s: Unix time. more_rows: rows that are too many to be shown."""

    at_s: float
    interval_s: float
    grouping: Grouping
    sort: SortKey
    rows: Sequence[Row]
    more_rows: int
    readings: Sequence[Reading]


def report_of(
    readings: Sequence[Reading], grouping: Grouping, sort: SortKey, at_s: float, interval_s: float
) -> Report:
    """What the processes tell at a Unix time; they are read every so many seconds."""
    rows = in_order(rows_of(readings, grouping), sort)
    return Report(at_s, interval_s, grouping, sort, rows[:MAX_ROWS], len(rows[MAX_ROWS:]), readings)


def in_order(rows: Sequence[Row], sort: SortKey) -> list[Row]:
    """The rows from the largest down, what is not known last; equal ones as they stood."""
    if sort is SortKey.NAME:
        return list(rows)

    def rank(row: Row) -> float:
        value: float | None = getattr(row, FIELDS[sort])
        return float("inf") if value is None else -value

    return sorted(rows, key=rank)


def document(report: Report) -> dict[str, object]:
    """The report for scripts. Times in seconds, rates per second, None = not known."""
    return {
        "time": round(report.at_s, 3),
        "interval_s": report.interval_s,
        "by": report.grouping.value,
        "rows": [_row_document(row) for row in report.rows],
        "more_rows": report.more_rows,
        "processes": [_process_document(reading) for reading in report.readings],
    }


def problem_of(reading: Reading) -> str:
    """What a person should know of a process, in one line; empty if it was read and nothing is wrong."""
    told = reading.problem or (reading.change.note if reading.change is not None else "")
    return printable("; ".join(filter(None, (reading.target.note, told))), MAX_NOTE)


def _row_document(row: Row) -> dict[str, object]:
    fields = dataclasses.asdict(row)
    names = {name: printable(fields.pop(name)) for name in ("model", "replica", "tenant")}
    return {name: value for name, value in names.items() if value or name == "model"} | fields


def _process_document(reading: Reading) -> dict[str, object]:
    return {
        "name": printable(reading.target.name, MAX_NOTE),
        "kind": reading.target.kind,
        "reachable": reading.change is not None,
        "problem": problem_of(reading),
    }
