"""`mesh status`: what runs, from another shell."""

from __future__ import annotations

import json
import time

from mesh_cli.commands.options import DEFAULT_STATE_DIR, AsJson, StateDir
from mesh_cli.mesh_table import addresses, output_console, table_of
from mesh_cli.readiness import with_readiness
from mesh_cli.running import running_mesh
from mesh_cli.state import StateFolder


def status(state_dir: StateDir = DEFAULT_STATE_DIR, as_json: AsJson = False) -> None:
    """Show the processes of the running mesh. Exit code 3 if there is none."""
    state = with_readiness(running_mesh(StateFolder(state_dir)))
    if as_json:
        print(json.dumps({"running": True, **state.model_dump(mode="json")}, indent=2))
        return
    console = output_console()
    console.print(table_of(state, time.time()))
    console.print(f"{addresses(state)}   config {state.config}", highlight=False, markup=False)
