"""`mesh chat` at a terminal: what Ctrl-C does."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.meshes import ROOT

LIMIT_S = 20.0


class Terminal:
    """`mesh chat` at a terminal of its own."""

    def __init__(self, target: str, folder: Path) -> None:
        self._ours, theirs = pty.openpty()
        arguments = ("chat", "slow", "--target", target, "--state-dir", str(folder))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mesh_cli", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=ROOT,
            env={**os.environ, "TERM": "dumb"},
        )
        os.close(theirs)
        self.seen = ""

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._ours, f"{text}\n".encode())

    def wait_for(self, text: str) -> None:
        """Wait until the text is shown after what was waited for before."""
        start, deadline = len(self.seen), time.monotonic() + LIMIT_S
        while text not in self.seen[start:]:
            assert time.monotonic() < deadline, self.seen
            if select.select([self._ours], [], [], 0.1)[0]:
                self.seen += os.read(self._ours, 4096).decode()

    def press_ctrl_c(self) -> None:
        """As the terminal would."""
        self.process.send_signal(signal.SIGINT)

    def leave(self) -> int:
        """Press Ctrl-C at the prompt; the exit code.

        More than once if need be: CPython's readline misses a signal that comes between showing
        the prompt and waiting for keys.
        """
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            self.press_ctrl_c()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(1.0)
        raise AssertionError(f"still there: {self.seen}")

    def close(self) -> None:
        """End it if it still runs."""
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A chat with a model whose answers never end."""
    command = [sys.executable, "-m", "tests.fakes.slow_chat"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as model:
        assert model.stdout is not None
        try:
            with contextlib.closing(
                Terminal(f"127.0.0.1:{model.stdout.readline().strip()}", tmp_path)
            ) as one:
                yield one
        finally:
            model.kill()


def test_ctrl_c_at_the_prompt_leaves(terminal: Terminal) -> None:
    terminal.wait_for(">>> ")
    assert terminal.leave() == 0
    assert "Traceback" not in terminal.seen


def test_ctrl_c_stops_the_answer_which_is_remembered_and_a_second_leaves(terminal: Terminal) -> None:
    terminal.wait_for(">>> ")
    terminal.type("Hello")
    terminal.wait_for("messages=1 again")
    terminal.press_ctrl_c()
    terminal.wait_for("[stopped]")
    terminal.type("And now?")
    terminal.wait_for("messages=3 again")
    terminal.press_ctrl_c()
    terminal.wait_for("[stopped]")
    terminal.type("/clear")
    terminal.type("New")
    terminal.wait_for("messages=1 again")
    terminal.press_ctrl_c()
    terminal.wait_for(">>> ")
    assert terminal.leave() == 0
    assert "Traceback" not in terminal.seen
