"""`mesh up`: runs the whole mesh on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mesh_cli.commands.options import DEFAULT_STATE_DIR, Config, StateDir
from mesh_cli.errors import FailedError, UsageError
from mesh_cli.mesh_table import LinesView, LiveView, addresses, line_of, output_console
from mesh_cli.plan import Access
from mesh_cli.run_mesh import UpOptions, run_mesh, start_detached
from mesh_cli.state import MeshState, Status

REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


def up(
    config: Config = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    grpc_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the gateway.")] = 50051,
    http_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the REST bridge.")] = 8080,
    keys: Annotated[
        Path | None,
        typer.Option(help="keys.yaml: only its keys may call; without it everyone on this machine."),
    ] = None,
    tenants: Annotated[
        Path | None,
        typer.Option(help="tenants.yaml: what each tenant may use, and whose tokens are believed."),
    ] = None,
    redis_url: Annotated[
        str | None,
        typer.Option(
            "--redis-url",
            envvar="MESH_REDIS_URL",
            help="Redis for limits and canaries, redis://…; default: the gateway keeps them itself.",
        ),
    ] = None,
    grace: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds that running calls get to finish at a stop.")
    ] = 10.0,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Start in the background and return.")
    ] = False,
    no_live: Annotated[bool, typer.Option("--no-live", help="Print lines instead of a live table.")] = False,
) -> None:
    """Run gateway, REST bridge and one worker per model replica, until Ctrl-C."""
    if keys is not None and not keys.is_file():
        raise UsageError(f"--keys: there is no file '{keys}'; make it with `mesh keys create --file {keys}`")
    if tenants is not None and not tenants.is_file():
        raise UsageError(f"--tenants: there is no file '{tenants}'")
    if redis_url is not None and not redis_url.startswith(REDIS_SCHEMES):
        raise UsageError(f"--redis-url must begin with {', '.join(REDIS_SCHEMES)}")
    access = Access(keys, tenants, redis_url or None)
    options = UpOptions(config, state_dir, grpc_port, http_port, grace, access)
    console = output_console()
    if detach:
        _report(console, start_detached(options))
        return
    is_live = console.is_terminal and not no_live
    run_mesh(options, LiveView(console) if is_live else LinesView(console))


def _report(console: Console, state: MeshState) -> None:
    for service in state.services:
        console.print(line_of(service), markup=False, highlight=False, soft_wrap=True)
    if not state.can_serve:
        raise FailedError("the mesh cannot serve")
    failed = [service.name for service in state.services if service.status is Status.FAILED]
    note = f" without {', '.join(failed)}" if failed else ""
    console.print(f"mesh is up{note}: {addresses(state)}", markup=False, highlight=False, soft_wrap=True)
    console.print("`mesh status` shows it, `mesh down` stops it", markup=False, highlight=False)
