"""Running the steps of `make setup` and saying how far they are.

A step's output is shown only if it fails. When a command fails or is interrupted, those beside
it are ended too: none outlives setup.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

HEARTBEAT_S = 15.0
SHOWN_LINES = 40


class SetupError(Exception):
    """A step failed; the message says what and shows the end of its output."""


@dataclasses.dataclass(eq=False)
class _Running:
    name: str
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    describe: Callable[[bytes], str]


class Progress:
    """Runs commands, several at a time, and prints a line for each and a heartbeat between them."""

    def __init__(self, folder: Path) -> None:
        """folder: where the commands run."""
        self._folder = folder
        self._started = time.monotonic()
        self._last_line = self._started
        self._running: list[_Running] = []
        self._is_ended = False
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Print a line with the time since the start."""
        self._last_line = time.monotonic()
        print(f"[{self._last_line - self._started:5.0f} s] {text}", flush=True)

    def run(
        self,
        name: str,
        command: Sequence[str],
        variables: Mapping[str, str] | None = None,
        describe: Callable[[bytes], str] = lambda _: "",
    ) -> None:
        """Run a command to its end. describe: how far it is, from its output. Raises SetupError."""
        self.say(name)
        with tempfile.TemporaryFile() as output:
            running = _Running(name, self._start(command, variables or {}, output), output, describe)
            with self._lock:
                self._running.append(running)
            if self._is_ended:  # ended between the start and the list
                self.end_all()
            try:
                code = running.process.wait()
            finally:
                with self._lock:
                    self._running.remove(running)
            if code != 0:
                raise SetupError(f"{name} failed with exit code {code}:\n{_last_lines(output)}")

    def beat(self) -> None:
        """Say what runs if nothing was said for a while."""
        if time.monotonic() - self._last_line < HEARTBEAT_S:
            return
        with self._lock:
            states = [(each.name, each.describe(_read(each.output))) for each in self._running]
        if states:
            self.say("still at " + "; ".join(f"{name} ({how})" if how else name for name, how in states))

    def end_all(self) -> None:
        """End every command that runs, with the processes that it started."""
        self._is_ended = True
        with self._lock:
            for running in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(running.process.pid, signal.SIGTERM)

    def _start(
        self, command: Sequence[str], variables: Mapping[str, str], output: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        # PYTHONPATH would leak into the environment; SOURCE_DATE_EPOCH makes ggml build for any CPU.
        inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SOURCE_DATE_EPOCH")}
        try:
            return subprocess.Popen(
                command,
                cwd=self._folder,
                env={**inherited, **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise SetupError(f"{command[0]}: {error.strerror}") from None


def _read(output: IO[bytes]) -> bytes:
    """All that was written so far; pread leaves the position that the command writes at."""
    return os.pread(output.fileno(), os.fstat(output.fileno()).st_size, 0)


def _last_lines(output: IO[bytes]) -> str:
    return "\n".join(_read(output).decode(errors="replace").splitlines()[-SHOWN_LINES:])
