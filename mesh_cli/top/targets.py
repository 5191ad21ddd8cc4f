"""Which processes `mesh top` reads: those of the mesh that runs here, or those at the addresses given."""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Iterable

import httpx

from mesh_cli.errors import UsageError
from mesh_cli.running import running_mesh
from mesh_cli.state import Kind, MeshState, ServiceState, StateFolder, Status
from mesh_cli.top.cells import printable

HOST = "127.0.0.1"
PATH = "/metrics"


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """A process. url: of its metrics. model: of a worker, if that is known beforehand.

    note: what its supervisor says of it, if that is anything but that it is ready.
    """

    name: str
    url: str
    kind: Kind | None = None
    model: str = ""
    note: str = ""


class MeshTargets:
    """The gateway and the workers of the mesh that runs here, each time as it is then.

    When it has ended, those that it had.
    """

    def __init__(self, folder: StateFolder) -> None:
        """Raises NotRunningError if there is no mesh."""
        self._folder = folder
        self._last = targets_of_mesh(running_mesh(folder))

    def __call__(self) -> list[Target]:
        """The processes now."""
        state = self._folder.read()
        if state is not None and state.is_running:
            self._last = targets_of_mesh(state)
            return self._last
        return [dataclasses.replace(one, note="its mesh has ended") for one in self._last]


def targets_of_mesh(state: MeshState) -> list[Target]:
    """The gateway and the workers of a mesh on this machine."""
    return [
        Target(one.name, f"http://{HOST}:{one.http_port}{PATH}", one.kind, one.model, _note(one))
        for one in state.services
        if one.kind != "bridge" and one.http_port
    ]


def targets_of_urls(addresses: Iterable[str]) -> list[Target]:
    """The processes at URLs or host:port, each once, named by host and port. Raises UsageError."""
    return list({target.url: target for target in map(_target_of, addresses)}.values())


def _target_of(address: str) -> Target:
    text = address if "://" in address else f"http://{address}"
    try:
        parts = urllib.parse.urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError(text)
        path = PATH if parts.path in ("", "/") else parts.path
        url = httpx.URL(urllib.parse.urlunsplit(parts._replace(path=path, fragment="")))
    except (ValueError, httpx.InvalidURL):
        raise UsageError(
            f"--metrics must be a URL such as http://{HOST}:9090{PATH}, not '{printable(address, 100)}'"
        ) from None
    # Without what stands before '@', which may be a password.
    name = parts.netloc.rpartition("@")[2]
    return Target(name if path == PATH else name + path, str(url))


def _note(service: ServiceState) -> str:
    if service.status is Status.READY:
        return ""
    return f"{service.status.value}: {service.reason}" if service.reason else service.status.value
