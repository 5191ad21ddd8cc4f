"""`mesh down`: stops the mesh from another shell."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh_cli.commands.options import DEFAULT_STATE_DIR, StateDir
from mesh_cli.errors import FailedError
from mesh_cli.running import stop_mesh
from mesh_cli.state import StateFolder


def down(
    state_dir: StateDir = DEFAULT_STATE_DIR,
    timeout: Annotated[
        float, typer.Option(min=0, max=7200, help="Seconds for an orderly stop; then it is killed.")
    ] = 40.0,
) -> None:
    """Stop the running mesh. Exit code 3 if there is none."""
    if not stop_mesh(StateFolder(state_dir), timeout):
        raise FailedError(f"the mesh did not stop within {timeout:g} s and was killed")
    print("mesh is down")
