"""Starting a mesh: the steps before the supervisor, and the signals that end it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mesh_cli.access_check import check_access
from mesh_cli.child import child_environment
from mesh_cli.errors import FailedError
from mesh_cli.mesh_file import read_mesh
from mesh_cli.mesh_table import LinesView, LiveView
from mesh_cli.plan import Access, Plan, plan_mesh
from mesh_cli.ports import is_free
from mesh_cli.restart_policy import RestartPolicy
from mesh_cli.state import MeshState, StateFolder
from mesh_cli.state_lock import locked
from mesh_cli.supervisor import Supervisor

DETACHED_START_LIMIT_S = 180.0


@dataclasses.dataclass(frozen=True, slots=True)
class UpOptions:
    """What `mesh up` is told. config: None = mesh.yaml here, else the embedded default."""

    config: Path | None
    state_dir: Path
    grpc_port: int
    http_port: int
    grace_s: float
    access: Access


def run_mesh(options: UpOptions, view: LinesView | LiveView) -> None:
    """Run a mesh until SIGINT or SIGTERM.

    Raises ConfigError, FailedError if it runs already, a port is taken, or nothing could be served.
    """
    folder = StateFolder(options.state_dir)
    parsed, base, source = read_mesh(options.config)
    check_access(options.access)
    folder.create()
    with locked(folder):
        check_ports(options)
        plan = plan_mesh(
            parsed.models,
            base,
            folder,
            grpc_port=options.grpc_port,
            http_port=options.http_port,
            grace_s=options.grace_s,
            access=options.access,
        )
        run_plan(plan, folder, view, source=source, grace_s=options.grace_s)


def run_plan(
    plan: Plan,
    folder: StateFolder,
    view: LinesView | LiveView,
    *,
    source: str,
    grace_s: float,
    policy: RestartPolicy = RestartPolicy(),  # noqa: B008 - frozen
) -> None:
    """Run the processes of a plan until SIGINT or SIGTERM; the folder is locked by the caller.

    Raises FailedError if nothing could be served.
    """
    supervisor = Supervisor(plan, folder, config=source, policy=policy, grace_s=grace_s, on_change=view.show)
    try:
        with view:
            asyncio.run(_under_signals(supervisor))
    finally:
        folder.state_file.unlink(missing_ok=True)


def start_detached(options: UpOptions) -> MeshState:
    """Start a mesh in the background; its state once every process is ready or has failed.

    Raises ConfigError and FailedError as `run_mesh` does, or when it takes too long.
    """
    folder = StateFolder(options.state_dir)
    read_mesh(options.config)
    check_access(options.access)
    folder.create()
    with locked(folder):
        check_ports(options)
        folder.state_file.unlink(missing_ok=True)
    log = folder.log_file("supervisor")
    with log.open("ab") as stream:
        start = stream.tell()
        process = subprocess.Popen(
            _detached_command(options),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            env=child_environment(os.environ) | dict(options.access.environment()),
        )
    deadline = time.monotonic() + DETACHED_START_LIMIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            written = log.read_bytes()[start:].decode(errors="replace").strip()
            raise FailedError(f"the mesh did not start; its log {log} says:\n{written}")
        state = folder.read()
        if state is not None and state.pid == process.pid and state.is_settled:
            return state
        time.sleep(0.1)
    raise FailedError(f"the mesh is not up after {DETACHED_START_LIMIT_S:.0f} s; see {log}")


def check_ports(options: UpOptions) -> None:
    """Raises FailedError naming the port that is taken, and the flag that chooses another."""
    if options.grpc_port == options.http_port:
        raise FailedError(f"--grpc-port and --http-port are both {options.grpc_port}; they must differ")
    for port, what, flag in (
        (options.grpc_port, "the gateway's gRPC port", "--grpc-port"),
        (options.http_port, "the REST bridge's port", "--http-port"),
    ):
        if not is_free(port):
            raise FailedError(f"{what} {port} is taken by another program; choose another with {flag}")


async def _under_signals(supervisor: Supervisor) -> None:
    """Run until a signal: the first stops in order, the second at once."""
    stopping, killing = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (killing if stopping.is_set() else stopping).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    await supervisor.run(stopping, killing)


def _detached_command(options: UpOptions) -> list[str]:
    command = [
        sys.executable,
        "-P",
        "-m",
        "mesh_cli",
        "up",
        "--no-live",
        "--state-dir",
        str(options.state_dir.absolute()),
    ]
    command += ["--grpc-port", str(options.grpc_port), "--http-port", str(options.http_port)]
    command += ["--grace", str(options.grace_s)]
    if options.config is not None:
        command += ["--config", str(options.config.absolute())]
    for flag, path in (("--keys", options.access.keys), ("--tenants", options.access.tenants)):
        if path is not None:
            command += [flag, str(path.absolute())]
    return command
