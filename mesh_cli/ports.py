"""Which TCP ports of this machine are free.

Ports for workers come from below the range that the kernel gives to outgoing connections:
so a worker finds its port free again when it restarts.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

FIRST_PORT, LAST_PORT = 20_000, 31_999


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """True if a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def is_open(host: str, port: int, timeout_s: float = 1.0) -> bool:
    """True if something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout_s):
            return True
    except OSError:
        return False


def free_port(taken: Collection[int] = ()) -> int:
    """A free port, none of those taken. Raises OSError if there is none."""
    first = random.randrange(FIRST_PORT, LAST_PORT)
    for offset in range(LAST_PORT - FIRST_PORT):
        port = FIRST_PORT + (first - FIRST_PORT + offset) % (LAST_PORT - FIRST_PORT)
        if port not in taken and is_free(port):
            return port
    raise OSError(f"no free port between {FIRST_PORT} and {LAST_PORT}")
