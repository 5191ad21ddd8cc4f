"""`mesh doctor`: what this machine has and lacks to run a mesh."""

from __future__ import annotations

import json

import typer
from rich.markup import escape
from rich.table import Table

from mesh_cli.checkup import Check, Verdict, check_machine
from mesh_cli.commands.options import AsJson
from mesh_cli.errors import EXIT_FAILED
from mesh_cli.mesh_table import output_console

STYLES = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.MISSING: "red"}


def doctor(as_json: AsJson = False) -> None:
    """Check this machine and say how to get what is missing. Exit code 1 if `mesh up` cannot work."""
    checks = check_machine()
    is_fit = all(check.verdict is not Verdict.MISSING for check in checks)
    if as_json:
        print(json.dumps({"ok": is_fit, "checks": [check.document() for check in checks]}, indent=2))
    else:
        output_console().print(_table(checks))
        print("this machine can run a mesh" if is_fit else "something is missing, see above")
    if not is_fit:
        raise typer.Exit(EXIT_FAILED)


def _table(checks: list[Check]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("CHECK", "", "FOUND", "CURE"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        table.add_row(
            escape(check.name),
            f"[{STYLES[check.verdict]}]{check.verdict.value}[/]",
            escape(check.found),
            escape(check.cure),
        )
    return table
