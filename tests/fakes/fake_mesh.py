"""A mesh of fake services under the real supervisor: `python -m tests.fakes.fake_mesh FOLDER PLAN`.

PLAN: JSON object of service name to {"kind", "arguments"}; ports are chosen here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from mesh_cli.errors import CliError
from mesh_cli.mesh_schema import MeshModel
from mesh_cli.mesh_table import LinesView
from mesh_cli.plan import Plan, ServiceSpec
from mesh_cli.ports import free_port
from mesh_cli.restart_policy import RestartPolicy
from mesh_cli.run_mesh import run_plan
from mesh_cli.state import StateFolder
from mesh_cli.state_lock import locked

MODULE = "tests.fakes.fake_service"


def main() -> None:
    """Run the fake mesh; the exit code is that of `mesh up`."""
    folder = StateFolder(Path(sys.argv[1]))
    services = tuple(_spec(name, one, folder) for name, one in json.loads(sys.argv[2]).items())
    models = tuple(MeshModel(name=one.model, path="x.onnx") for one in services if one.kind == "worker")
    policy = RestartPolicy(initial_s=0.1, max_s=1.0, stable_s=60.0)
    folder.create()
    try:
        with locked(folder):
            view = LinesView(Console())
            run_plan(Plan(models, services), folder, view, source="fake", grace_s=1.0, policy=policy)
    except CliError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _spec(name: str, one: dict[str, Any], folder: StateFolder) -> ServiceSpec:
    return ServiceSpec(
        name=name,
        kind=one["kind"],
        module=MODULE,
        arguments=("--name", name, "--trace", str(folder.path / "trace"), *one.get("arguments", ())),
        grpc_port=None if one["kind"] == "bridge" else free_port(),
        http_port=free_port(),
        model=name.rpartition("-")[0] if one["kind"] == "worker" else "",
        problem=one.get("problem"),
    )


if __name__ == "__main__":
    main()
