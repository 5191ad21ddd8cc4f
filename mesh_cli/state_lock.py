"""One supervisor for one state folder: a file lock that the kernel frees when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from mesh_cli.errors import FailedError
from mesh_cli.state import StateFolder


@contextlib.contextmanager
def locked(folder: StateFolder) -> Iterator[None]:
    """Hold the folder. Raises FailedError naming the process that holds it already."""
    handle = os.open(folder.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
            raise FailedError(
                f"a mesh is already running here (pid {holder}, {folder.path}); "
                "stop it with `mesh down`, or choose another --state-dir"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
