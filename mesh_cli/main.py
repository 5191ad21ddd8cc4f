"""The command line: every command, and what the exit code says.

Exit codes: 0 done, 1 the thing asked for failed, 2 used or configured wrongly, 3 no mesh is
running. What the user can act on is one line on standard error, never a traceback.
"""

from __future__ import annotations

import sys

import typer

from inference_mesh.config.errors import ConfigError
from inference_mesh.errors import MeshError
from mesh_cli.commands import (
    bench,
    canary,
    chat,
    config,
    conform,
    demo,
    doctor,
    down,
    explain,
    infer,
    keys,
    models,
    prepare,
    secrets,
    status,
    top,
    up,
)
from mesh_cli.errors import EXIT_FAILED, EXIT_USAGE, CliError


def make_app() -> typer.Typer:
    """The command tree."""
    app = typer.Typer(
        name="mesh",
        help="Run many local models behind one address, and talk to them.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, command in (
        ("up", up.up),
        ("status", status.status),
        ("top", top.top),
        ("down", down.down),
        ("infer", infer.infer),
        ("bench", bench.bench),
        ("conform", conform.conform),
        ("explain", explain.explain),
        ("chat", chat.chat),
        ("prepare", prepare.prepare),
        ("doctor", doctor.doctor),
        ("demo", demo.demo),
    ):
        app.command(name)(command)
    app.add_typer(models.make_app(), name="models")
    app.add_typer(config.make_app(), name="config")
    app.add_typer(keys.make_app(), name="keys")
    app.add_typer(secrets.make_app(), name="secrets")
    app.add_typer(canary.make_app(), name="canary")
    return app


def main() -> None:
    """Entry point of `mesh`."""
    try:
        make_app()()
    except CliError as error:
        _fail(str(error), error.exit_code)
    except MeshError as error:
        _fail(error_line(error), EXIT_FAILED)
    except ConfigError as error:
        for problem in error.problems:
            print(f"{error.source}: {problem}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def error_line(error: MeshError) -> str:
    """What a MeshError says in one line, with when to come back."""
    hint = "" if error.retry_after_s is None else f" (retry in {error.retry_after_s:.3g} s)"
    return f"{error.code.name} {error.message}{hint}"


def _fail(message: str, exit_code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(exit_code)
