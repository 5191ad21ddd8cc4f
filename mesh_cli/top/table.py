"""A report as a table for a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from mesh_cli.top.cells import NONE, amount, duration, part_of, printable, share, whole
from mesh_cli.top.choices import Grouping
from mesh_cli.top.report import Report, problem_of
from mesh_cli.top.traffic import Row

Cell = Callable[[Row], str]
Column = tuple[str, Cell]

NAMES: dict[Grouping, tuple[Column, ...]] = {
    Grouping.MODEL: (("MODEL", lambda row: printable(row.model)),),
    Grouping.REPLICA: (
        ("MODEL", lambda row: printable(row.model)),
        ("REPLICA", lambda row: printable(row.replica)),
    ),
    Grouping.TENANT: (
        ("TENANT", lambda row: printable(row.tenant)),
        ("MODEL", lambda row: printable(row.model)),
    ),
}
ERRORS = "ERR/S"
CALLS: tuple[Column, ...] = (
    ("REQ/S", lambda row: amount(row.requests_per_s)),
    (ERRORS, lambda row: amount(row.errors_per_s)),
)
TOKENS: tuple[Column, ...] = (
    ("IN/S", lambda row: amount(row.prompt_tokens_per_s)),
    ("TOK/S", lambda row: amount(row.completion_tokens_per_s)),
)
LOAD: tuple[Column, ...] = (
    ("P50", lambda row: duration(row.p50_s)),
    ("P99", lambda row: duration(row.p99_s)),
    ("TTFT", lambda row: duration(row.first_token_p50_s)),
    ("RUN", lambda row: whole(row.in_flight)),
    ("QUEUE", lambda row: whole(row.queue_depth)),
)
ENGINES: tuple[Column, ...] = (
    ("KV", lambda row: share(row.kv_cache_usage_ratio)),
    ("SLOTS", lambda row: part_of(row.running, row.slots)),
    ("READY", lambda row: part_of(row.ready, row.replicas)),
)


def table_of(report: Report) -> Group:
    """The rows, and a line for each process with which something is wrong."""
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    names = NAMES[report.grouping]
    for heading, _ in names:
        table.add_column(heading, overflow="ellipsis", min_width=6)
    numbers = _numbers(report.grouping)
    for heading, _ in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report.rows:
        # As Text: what a process calls itself is no markup.
        table.add_row(*(Text(cell(row) or NONE) for _, cell in names), *(_cell(row, one) for one in numbers))
    return Group(table, *_notes(report))


def summary_of(report: Report) -> str:
    """What the table is about, in one line."""
    reached = sum(reading.change is not None for reading in report.readings)
    return (
        f"{reached} of {len(report.readings)} processes, every {report.interval_s:g} s, "
        f"by {report.grouping.value}, sorted by {report.sort.value}"
    )


def _numbers(grouping: Grouping) -> Sequence[Column]:
    return (*CALLS, *TOKENS) if grouping is Grouping.TENANT else (*CALLS, *LOAD, *TOKENS, *ENGINES)


def _cell(row: Row, column: Column) -> Text:
    heading, cell = column
    if heading == ERRORS and row.errors_per_s:
        return Text(cell(row), style="red")
    if heading == "READY" and row.ready != row.replicas:
        return Text(cell(row), style="red")
    return Text(cell(row))


def _notes(report: Report) -> list[Text]:
    notes = [
        Text(f"{printable(reading.target.name)}: {problem}", style="yellow" if reading.change else "red")
        for reading in report.readings
        if (problem := problem_of(reading))
    ]
    if not report.rows:
        notes.insert(0, Text("nothing to show: no call was counted, or no process could be read"))
    if report.more_rows:
        notes.insert(0, Text(f"and {report.more_rows} more rows"))
    return notes
