"""One process of the mesh: started, watched until it listens, stopped.

Owns the operating system's side: environment, session, log, port file. Does not decide
whether it is started again; `restart_policy` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

LISTENING_POLL_S = 0.05
MAX_LOG_BYTES = 20 * 1024 * 1024
MAX_REASON_CHARACTERS = 300

# Without the first, ggml starts a debugger when it aborts.
_NATIVE_ENVIRONMENT = {"GGML_NO_BACKTRACE": "1", "PYTHONUNBUFFERED": "1"}
_CREDENTIALS = ("MESH_API_KEY", "MESH_REDIS_URL")


class Child:
    """A running process of the mesh."""

    def __init__(
        self, process: asyncio.subprocess.Process, port_file: Path, log: Path, log_start: int
    ) -> None:
        self._process = process
        self._port_file = port_file
        self._log = log
        self._log_start = log_start

    @classmethod
    async def start(
        cls,
        module: str,
        arguments: tuple[str, ...],
        *,
        port_file: Path,
        log: Path,
        environment: Iterable[tuple[str, str]] = (),
    ) -> Self:
        """Start `python -m module` in its own session, bound to the life of this process.

        environment: variables that it gets beside ours.
        The own session keeps the terminal's Ctrl-C from it: the supervisor stops in order.
        """
        _make_way(port_file, log)
        with log.open("ab") as stream:
            log_start = stream.tell()  # before the start: the process moves the same file position on
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "mesh_cli.launch", str(os.getpid()), module, *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                env=child_environment(os.environ) | dict(environment),
            )
            return cls(process, port_file, log, log_start)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """True once its end was seen."""
        return self._process.returncode is not None

    def ports(self) -> dict[str, int] | None:
        """The ports that it listens on, by protocol; None if it does not listen yet."""
        try:
            ports = json.loads(self._port_file.read_bytes())
            return ports if ports["pid"] == self.pid and ports["http"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    async def wait_listening(self) -> int | None:
        """Its HTTP port once it listens; None if it ended before."""
        while not self.has_ended:
            ports = self.ports()
            if ports is not None:
                return ports["http"]
            await self.pause(LISTENING_POLL_S)
        return None

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until it ends."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._process.wait()), seconds)

    async def wait(self) -> int:
        """Its exit code, negative = signal."""
        return await self._process.wait()

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL if it still runs after the grace."""
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self._process.wait()), grace_s)
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    def end_reason(self, code: int) -> str:
        """Why it ended, as well as its exit code and its log tell."""
        try:
            with self._log.open("rb") as stream:
                stream.seek(self._log_start)
                written = stream.read()[-64 * 1024 :].decode(errors="replace")
        except OSError:
            written = ""
        return end_reason(code, written)

    def _signal(self, number: signal.Signals) -> None:
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process of the mesh: ours, without credentials, with what native code needs."""
    kept = {name: value for name, value in environment.items() if name not in _CREDENTIALS}
    # With -P the current folder is not searched: a user's own `models` or `workers` folder
    # must not take the place of ours. So the place of our packages is named.
    ours = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (ours, kept.get("PYTHONPATH"))))
    return {**_NATIVE_ENVIRONMENT, **kept, "PYTHONPATH": path}


def end_reason(code: int, written: str) -> str:
    """One line: the signal that ended a process, or the last thing that it wrote."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"
    lines = [line.strip() for line in written.splitlines() if line.strip()]
    last = _sentence(lines[-1]) if lines else ""
    return (last or f"ended with exit code {code}")[:MAX_REASON_CHARACTERS]


def _sentence(line: str) -> str:
    """A log line for people: what it says, without time and level."""
    try:
        document = json.loads(line)
    except ValueError:
        return line
    if not isinstance(document, dict):
        return line
    told = [document.get(key) for key in ("reason", "error", "message", "exception")]
    details = [str(text).strip().splitlines()[-1] for text in told if str(text or "").strip()]
    return ": ".join([str(document.get("event", "")), *details[:1]]).strip(": ")


def _make_way(port_file: Path, log: Path) -> None:
    """Forget the ports of the process before; put a long log aside."""
    port_file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        if log.stat().st_size > MAX_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
