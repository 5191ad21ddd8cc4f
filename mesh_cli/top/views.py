"""Where reports are shown: in place on a terminal, one after another elsewhere, or as JSON."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from mesh_cli.top.report import Report, document
from mesh_cli.top.table import summary_of, table_of

HINT = "Ctrl-C ends it"


class View(Protocol):
    """Shows reports in a block.

    shows_first: whether it shows the first report too, which has no rates, as nothing came before.
    """

    shows_first: bool

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""

    def show(self, report: Report) -> None:
        """Show a report."""


class _PrintedView:
    """Shows each report after the one before."""

    shows_first = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class JsonView(_PrintedView):
    """Prints a line of JSON for each report."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, report: Report) -> None:
        """Print it, also into a pipe at once."""
        self._console.out(json.dumps(document(report), allow_nan=False), highlight=False)


class PlainView(_PrintedView):
    """Prints a table for each report, with an empty line between them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_first = True

    def show(self, report: Report) -> None:
        """Print it, without anything that moves a cursor."""
        if not self._is_first:
            self._console.print()
        self._is_first = False
        self._console.print(table_of(report))


class LiveView:
    """A table that changes in place."""

    shows_first = True

    def __init__(self, console: Console) -> None:
        self._live = Live(Text("reading"), console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, report: Report) -> None:
        """Show this report from now on."""
        hint = Text(f"{summary_of(report)}; {HINT}", style="dim", no_wrap=True, overflow="ellipsis")
        self._live.update(Group(table_of(report), hint), refresh=True)
