"""Which address a client command talks to, and what it means when nobody answers there."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from inference_mesh.errors import MeshError, UnavailableError
from mesh_cli.errors import NotRunningError, UsageError
from mesh_cli.ports import is_open
from mesh_cli.state import StateFolder

DEFAULT_TARGET = "127.0.0.1:50051"

T = TypeVar("T")


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


def run_call(call: Coroutine[Any, Any, T], target: str) -> T:
    """Run a client's coroutine. Raises NotRunningError if nothing listens at the target, else MeshError."""
    try:
        return asyncio.run(call)
    except MeshError as error:
        raise explained(error, target) from None


def explained(error: MeshError, target: str) -> Exception:
    """NotRunningError if nothing listens at the target, else the error as it is."""
    if isinstance(error, UnavailableError) and not is_open(*host_and_port(target)):
        return NotRunningError(f"no mesh answers at {target}; start one with `mesh up`")
    return error
