"""Whether a recorded pid is still the process that was recorded.

A pid alone is not enough: the kernel gives it to another process later. Together with the
start time it is unique.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

_STATE_FIELD, _START_FIELD = 0, 19
"""Positions in /proc/PID/stat after the command's name (fields 3 and 22 in proc(5))."""


def start_mark(pid: int) -> str | None:
    """When the process started, in the system's own form; None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _start_mark_by_ps(pid)
    fields = text.rpartition(")")[2].split()
    return None if fields[_STATE_FIELD] in "ZX" else fields[_START_FIELD]


def is_same_process(pid: int, mark: str | None) -> bool:
    """True if the process runs and is the one whose start was recorded."""
    return pid > 0 and mark is not None and start_mark(pid) == mark


def send_signal(pid: int, mark: str | None, number: signal.Signals) -> bool:
    """Send a signal to the recorded process; False if it is gone."""
    if not is_same_process(pid, mark):
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def wait_for_end(pid: int, mark: str | None, timeout_s: float) -> bool:
    """True once the recorded process is gone; False if it still runs after the time."""
    deadline = time.monotonic() + timeout_s
    while is_same_process(pid, mark):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def _start_mark_by_ps(pid: int) -> str | None:
    answer = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None
