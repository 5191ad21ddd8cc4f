"""How the state of a mesh is shown: a table for a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mesh_cli.state import MeshState, ServiceState, Status

PIPE_WIDTH = 240

STYLES = {
    Status.STARTING: "yellow",
    Status.READY: "green",
    Status.WAITING: "yellow",
    Status.FAILED: "red",
    Status.STOPPING: "yellow",
    Status.STOPPED: "dim",
}


def output_console() -> Console:
    """Standard output; wide where no terminal sets the width, so that scripts get whole lines."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def table_of(state: MeshState, now: float) -> Table:
    """The processes of a mesh, one a row. now: seconds since 1970."""
    table = Table(box=None, pad_edge=False)
    for heading in ("NAME", "STATUS", "PID", "GRPC", "HTTP", "UP", "RESTARTS", "NOTE"):
        table.add_column(
            heading, overflow="fold" if heading == "NOTE" else "ellipsis", no_wrap=heading != "NOTE"
        )
    for service in state.services:
        table.add_row(*_row(service, now))
    return table


def addresses(state: MeshState) -> str:
    """Where the mesh is reached."""
    return f"gRPC {state.target}   REST {state.url}"


def line_of(service: ServiceState) -> str:
    """A change of one process as one line."""
    parts = [f"{service.name}:", service.status.value]
    if service.status is Status.READY:
        ports = [f"grpc {service.grpc_port}"] if service.grpc_port else []
        ports += [f"http {service.http_port}"] if service.http_port else []
        parts.append(f"after {service.ready_after_s:.1f} s (pid {service.pid}, {', '.join(ports)})")
    if service.reason and service.status in (Status.WAITING, Status.FAILED):
        parts.append(f"- {service.reason}")
    return " ".join(parts)


class LinesView:
    """Prints a line for each change of a process, and the addresses once the mesh can serve."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[str, Status] = {}
        self._is_announced = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, state: MeshState) -> None:
        """Print what has changed since the last call."""
        for service in state.services:
            if self._seen.get(service.name) != service.status:
                self._seen[service.name] = service.status
                self._print(line_of(service))
        if not self._is_announced and state.is_settled and state.can_serve:
            self._is_announced = True
            seconds = time.time() - state.started_at
            self._print(f"mesh is up after {seconds:.1f} s: {addresses(state)}")

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveView:
    """A table that changes in place."""

    def __init__(self, console: Console) -> None:
        self._state: MeshState | None = None
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, state: MeshState) -> None:
        """Show this state from now on."""
        self._state = state
        self._live.refresh()

    def _render(self) -> Group:
        if self._state is None:
            return Group(Text("starting"))
        statuses = {service.status for service in self._state.services}
        is_ending = bool(statuses & {Status.STOPPING, Status.STOPPED})
        hint = "stopping; Ctrl-C again kills" if is_ending else "Ctrl-C stops the mesh"
        return Group(
            table_of(self._state, time.time()),
            Text(""),
            Text(f"{addresses(self._state)}   logs {self._log_folder()}", style="bold"),
            Text(hint, style="dim"),
        )

    def _log_folder(self) -> str:
        log = self._state.services[0].log if self._state and self._state.services else ""
        return log.rpartition("/")[0]


def _row(service: ServiceState, now: float) -> tuple[str, ...]:
    is_alive = service.pid > 0 and service.status is not Status.STOPPED
    return (
        service.name,
        f"[{STYLES[service.status]}]{service.status.value}[/]",
        str(service.pid) if is_alive else "-",
        str(service.grpc_port or "-"),
        str(service.http_port or "-"),
        _duration(now - service.started_at) if is_alive else "-",
        str(service.restarts),
        escape(service.reason),
    )


def _duration(seconds: float) -> str:
    whole = max(0, int(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{whole % 60:02d}s" if minutes else f"{whole}s"
