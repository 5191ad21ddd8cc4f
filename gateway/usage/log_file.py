"""A file that lines are appended to, also while another program moves it away.

Owns the descriptor. Not safe for two threads; does not decide what happens to lines that
cannot be written.
"""

from __future__ import annotations

import os
from pathlib import Path

MODE = 0o640
LINE_END = b"\n"


class LogFile:
    """One file, opened at its first line. Every method may raise OSError and be called again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._is_within_line = False

    def open(self) -> None:
        """Open the file, if it is not open; a torn line at its end, as after a crash, gets an end."""
        if self._descriptor is not None:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
        try:
            size_bytes = os.fstat(descriptor).st_size
            if size_bytes and os.pread(descriptor, 1, size_bytes - 1) != LINE_END:
                os.write(descriptor, LINE_END)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor, self._is_within_line = descriptor, False

    def append(self, data: memoryview) -> int:
        """Write as much as the disk takes of some lines; how many bytes that was.

        The rest of a line that was begun goes to the file where it was begun.
        """
        if not self._is_within_line and self._was_moved():
            self.close()
        self.open()
        if self._descriptor is None:
            return 0
        written = os.write(self._descriptor, data)
        if written:
            self._is_within_line = data[written - 1] != LINE_END[0]
        return written

    def close(self) -> None:
        """Put everything on the disk and close."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _was_moved(self) -> bool:
        """Whether the path names another file than the open one, or none."""
        if self._descriptor is None:
            return False
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return True
        here = os.fstat(self._descriptor)
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)
