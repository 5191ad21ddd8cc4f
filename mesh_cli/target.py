"""Which gateway or worker a client command talks to and how, and what it means when nobody answers there."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Coroutine
from typing import Any, TypeVar

from inference_mesh.client import DEFAULT_TIMEOUT_S, MeshClient
from inference_mesh.client_tls import ClientTls, client_tls
from inference_mesh.errors import MeshError, UnavailableError
from mesh_cli.commands.gateway_options import GatewayOptions
from mesh_cli.errors import NotRunningError, UsageError
from mesh_cli.ports import is_open
from mesh_cli.state import StateFolder
from mesh_cli.tls_probe import handshake_problem

DEFAULT_TARGET = "127.0.0.1:50051"

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """Where a command calls, host:port, and as whom. tls: None = plaintext."""

    target: str
    api_key: str | None = None
    tls: ClientTls | None = None

    def client(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> MeshClient:
        """A client whose calls may take so long. Raises ConfigError if a file of the TLS is wrong."""
        return MeshClient(self.target, api_key=self.api_key, tls=self.tls, timeout_s=timeout_s)


def choose_access(options: GatewayOptions) -> Access:
    """What the options say; without an address that of the mesh running here, else the default.

    Raises UsageError if they do not fit together, or the address is not host:port.
    """
    target = choose_target(options.target, StateFolder(options.state_dir))
    try:
        tls = client_tls(
            options.tls_ca, options.tls_cert, options.tls_key, options.tls_name, called="--tls-{}"
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    return Access(target, options.api_key, tls)


def choose_target(given: str | None, folder: StateFolder) -> str:
    """The address that was given, else that of the mesh running here, else the default.

    Raises UsageError if the given one is not host:port.
    """
    if given is not None:
        host_and_port(given)
        return given
    state = folder.read()
    return state.target if state is not None and state.is_running else DEFAULT_TARGET


def host_and_port(target: str) -> tuple[str, int]:
    """The parts of host:port. Raises UsageError."""
    host, _, port = target.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"target '{target}' must be host:port, e.g. {DEFAULT_TARGET}")
    return host.strip("[]"), int(port)


def run_call(call: Coroutine[Any, Any, T], access: Access) -> T:
    """Run a client's coroutine. Raises NotRunningError if nothing listens at the target, else MeshError."""
    try:
        return asyncio.run(call)
    except MeshError as error:
        raise explained(error, access) from None


def explained(error: MeshError, access: Access) -> Exception:
    """What a person can act on: that nothing listens, or that no TLS comes about; else the error as it is."""
    if not isinstance(error, UnavailableError):
        return error
    address = host_and_port(access.target)
    if not is_open(*address):
        return NotRunningError(f"no mesh answers at {access.target}; start one with `mesh up`")
    problem = handshake_problem(*address, access.tls)
    return error if problem is None else UnavailableError(f"no connection to {access.target}: {problem}")
