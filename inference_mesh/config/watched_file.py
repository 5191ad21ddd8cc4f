"""A file that is read again when it changes, and whose last good content stays.

Polls content, not events: a ConfigMap is swapped by renaming a symlink of its directory,
which no watch of the file itself sees. A file that cannot be read or parsed changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from inference_mesh import telemetry
from inference_mesh.config.errors import ConfigError, Problem
from inference_mesh.config.yaml_document import MAX_FILE_BYTES

log = telemetry.get_logger(__name__)

POLL_INTERVAL_S = 0.5

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class _Outcome(Generic[T]):
    """Result of one reading: a value or an error, and the digest of what was read."""

    digest: bytes
    value: T | None = None
    error: ConfigError | None = None


class WatchedFile(Generic[T]):
    """Owns the current value of one file.

    on_change is called with each new good value, on_reload with None or the error of every
    attempt after a change of content; both in the event loop's thread.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[str], T],
        *,
        on_change: Callable[[T], None] | None = None,
        on_reload: Callable[[ConfigError | None], None] | None = None,
    ) -> None:
        self._path = path
        self._parse = parse
        self._on_change = on_change
        self._on_reload = on_reload
        self._digest = b""
        self._value: T | None = None
        self.last_error: ConfigError | None = None

    @property
    def value(self) -> T | None:
        """The last good value; None before there was one."""
        return self._value

    def load(self) -> T:
        """Read the file for the first time. Raises ConfigError if it is not good."""
        self.check()
        if self.last_error is not None:
            raise self.last_error
        if self._value is None:
            raise ConfigError(str(self._path), (Problem("", "was never read"),))
        return self._value

    def check(self) -> None:
        """Read the file and take its value if the content changed; never raises."""
        self._take(self._attempt())

    async def watch(self, interval_s: float = POLL_INTERVAL_S) -> None:
        """Check for ever; run it in a TaskGroup and cancel it to stop.

        Reading and parsing happen in a thread: a large file takes longer than the event loop
        can be spared.
        """
        while True:
            await asyncio.sleep(interval_s)
            self._take(await asyncio.to_thread(self._attempt))

    def _attempt(self) -> _Outcome[T] | None:
        """What the file says now; None if its content is what it was."""
        try:
            data = self._read()
        except ConfigError as error:
            return _Outcome(hashlib.sha256(str(error).encode()).digest(), error=error)
        digest = hashlib.sha256(data).digest()
        if digest == self._digest:
            return None
        try:
            with _without_garbage_collection():
                return _Outcome(digest, value=self._parse(data.decode("utf-8")))
        except UnicodeDecodeError:
            return _Outcome(digest, error=ConfigError(str(self._path), (Problem("", "is not UTF-8"),)))
        except ConfigError as error:
            return _Outcome(digest, error=error)

    def _take(self, outcome: _Outcome[T] | None) -> None:
        """Make an outcome the state, and tell who wants to know; in the event loop's thread."""
        if outcome is None or outcome.digest == self._digest:
            return
        self._digest, self.last_error = outcome.digest, outcome.error
        if outcome.error is not None:
            log.error(
                "configuration refused, the last good one stays",
                path=str(self._path),
                reason=str(outcome.error),
            )
        else:
            self._value = outcome.value
            log.info("configuration loaded", path=str(self._path))
        if self._on_reload is not None:
            self._on_reload(outcome.error)
        if outcome.value is not None and self._on_change is not None:
            self._on_change(outcome.value)

    def _read(self) -> bytes:
        try:
            resolved = self._path.resolve(strict=True)
            if resolved.stat().st_size > MAX_FILE_BYTES:
                raise ConfigError(str(self._path), (Problem("", f"is larger than {MAX_FILE_BYTES} bytes"),))
            return resolved.read_bytes()
        except OSError as error:
            raise ConfigError(str(self._path), (Problem("", f"cannot be read: {error.strerror}"),)) from None


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Parsing makes a million objects and no cycles: looking for some stops all threads, up to 0.4 s.

    Of two that overlap the first one ends it for both, which costs time and nothing else.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
