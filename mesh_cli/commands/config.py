"""`mesh config`: says exactly what is wrong in a configuration file, and where."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from inference_mesh.config.errors import ConfigError
from inference_mesh.config.yaml_document import YamlDocument
from mesh_cli.commands.options import AsJson
from mesh_cli.config_kinds import FileKind, check_config, kind_of
from mesh_cli.errors import EXIT_FAILED, UsageError
from mesh_cli.mesh_file import read_text


class KindChoice(StrEnum):
    """What can be chosen by --kind."""

    MODELS = "models"
    MESH = "mesh"
    KEYS = "keys"
    TENANTS = "tenants"


def make_app() -> typer.Typer:
    """The commands below `mesh config`."""
    app = typer.Typer(help="Check configuration files.", no_args_is_help=True)
    app.callback()(_only_group)
    app.command("check")(check)
    return app


def check(
    file: Annotated[Path, typer.Argument(help="models.yaml, mesh.yaml, keys.yaml or tenants.yaml.")],
    kind: Annotated[
        KindChoice | None, typer.Option(help="What the file is; default: by its content.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a file; every problem is printed with its line. Exit code 1 if there is one."""
    if not file.is_file():
        raise UsageError(f"there is no file '{file}'")
    found, problems = _examined(file, FileKind(kind.value) if kind is not None else None)
    if as_json:
        print(json.dumps(_document(file, found, problems), indent=2))
    else:
        for problem in problems.problems if problems else ():
            print(f"{file}: {problem}", file=sys.stderr)
        if problems is None and found is not None:
            print(f"{file}: is a good {found.value}.yaml")
    if problems is not None:
        raise typer.Exit(EXIT_FAILED)


def _examined(file: Path, kind: FileKind | None) -> tuple[FileKind | None, ConfigError | None]:
    """What the file is and what is wrong in it. Raises UsageError if it is YAML of no known kind."""
    try:
        text = read_text(file)
        found = kind or kind_of(text, file.name)
        if found is None:
            YamlDocument(text, str(file))
            raise UsageError(f"cannot tell what '{file}' is; say it with --kind, e.g. --kind models")
        return found, check_config(found, text, file)
    except ConfigError as error:
        return kind, error


def _only_group() -> None:
    """Check configuration files."""


def _document(file: Path, kind: FileKind | None, error: ConfigError | None) -> dict[str, object]:
    problems = error.problems if error else ()
    return {
        "file": str(file),
        "kind": kind.value if kind else None,
        "ok": error is None,
        "problems": [{"line": one.line, "where": one.where, "message": one.message} for one in problems],
    }
