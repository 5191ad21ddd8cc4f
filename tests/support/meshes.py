"""Meshes and `mesh` commands as real processes, for tests of the command line."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mesh_cli.state import MeshState, StateFolder

ROOT = Path(__file__).resolve().parent.parent.parent
START_LIMIT_S = 30.0


def fake_plan(**workers: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A gateway, a bridge and these workers; `a_0={}` is the worker a-0."""
    named = {name.replace("_", "-"): {"kind": "worker", **one} for name, one in workers.items()}
    return {**named, "gateway": {"kind": "gateway"}, "bridge": {"kind": "bridge"}}


@dataclasses.dataclass(frozen=True)
class FakeMesh:
    """A running mesh of fake services."""

    process: subprocess.Popen[str]
    folder: StateFolder

    def wait_state(self, is_wanted: Callable[[MeshState], bool]) -> MeshState:
        """The first state that is wanted; fails when it does not come."""
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            state = self.folder.read()
            if state is not None and is_wanted(state):
                return state
            if self.process.poll() is not None:
                raise AssertionError(f"the mesh ended with {self.process.returncode}")
            time.sleep(0.02)
        raise AssertionError(f"the wanted state did not come; the last is {self.folder.read()}")

    @property
    def trace(self) -> list[str]:
        """What the services did, in order: `start NAME` and `stop NAME`."""
        return (self.folder.path / "trace").read_text().splitlines()


@contextmanager
def fake_mesh(folder: Path, plan: dict[str, dict[str, Any]]) -> Iterator[FakeMesh]:
    """A mesh of fake services under the real supervisor, ended after the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.fake_mesh", str(folder), json.dumps(plan)],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield FakeMesh(process, StateFolder(folder))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def mesh(
    *arguments: str, cwd: Path | None = None, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one `mesh` command to its end, without the variables of the caller's own mesh."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}
    cache = {"MESH_CACHE_DIR": os.environ["MESH_CACHE_DIR"]} if "MESH_CACHE_DIR" in os.environ else {}
    return subprocess.run(
        [sys.executable, "-m", "mesh_cli", *arguments],
        cwd=cwd or ROOT,
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**environment, **cache, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )
