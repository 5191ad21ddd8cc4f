"""A real redis-server under test: on a free port of loopback, without persistence, never left.

Owns starting, stopping and stalling it. What is stored in it is the business of who uses it.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

START_LIMIT_S = 10.0


class RedisServer:
    """Owns one redis-server process; after `kill` it can be started again on its port, empty."""

    def __init__(self, folder: Path) -> None:
        """folder: its working folder; it writes nothing there."""
        self._folder = folder
        self._popen: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = shutil.which("redis-server")
        if program is None:
            raise AssertionError("redis-server is not installed; see scripts/apt_packages.sh")
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", ""]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._folder), "--loglevel", "warning"]
        self._popen = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        deadline_s = time.monotonic() + START_LIMIT_S
        while not self._answers():
            if self._popen.poll() is not None or time.monotonic() > deadline_s:
                raise AssertionError("redis-server did not start")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it by SIGKILL; what it held is lost."""
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()
            self._popen = None

    def limit_memory(self, size_bytes: int) -> None:
        """Refuse writes beyond so much from now on; less than it holds = refuse all."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(f"CONFIG SET maxmemory {size_bytes}\r\n".encode())
            if not connection.recv(16).startswith(b"+OK"):
                raise AssertionError("redis-server took no limit")

    def stall(self) -> None:
        """SIGSTOP: its connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT, after `stall`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._popen is None:
            raise AssertionError("redis-server does not run")
        self._popen.send_signal(number)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """A running server that is ended with the block."""
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
