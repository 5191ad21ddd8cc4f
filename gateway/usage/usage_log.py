"""Writes usage records to a file, as JSON lines, without holding up a call.

Owns the records that are not written yet, and the thread that writes them. A record is in the
file half a second after its call's end; where the disk takes none, records wait in memory up to
a limit, and are counted as lost from there on. Only what kills the process at once, as SIGKILL
or a second SIGTERM, loses the last half second.
"""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

from gateway.usage.log_file import LINE_END, LogFile
from gateway.usage.metrics import UsageMetrics
from gateway.usage.record import UsageRecord
from inference_mesh import telemetry

log = telemetry.get_logger(__name__)

FLUSH_INTERVAL_S = 0.5
CLOSE_RETRY_S = 0.1
CLOSE_LIMIT_S = 5.0
HUNG_DISK_S = 1.0
"""What the thread gets beyond its limit to come back from a write."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""About 200,000 records."""


class UsageLog:
    """Owns one file of usage records. `add` may be called by any thread."""

    def __init__(
        self, path: Path, metrics: UsageMetrics, *, max_waiting_bytes: int = MAX_WAITING_BYTES
    ) -> None:
        self._path = path
        self._file = LogFile(path)
        self._metrics = metrics
        self._max_waiting_bytes = max_waiting_bytes
        self._lock = threading.Lock()  # over the next four; the rest is the thread's
        self._waiting = bytearray()  # one piece: a kept piece for each record costs more than the record
        self._waiting_bytes = 0
        self._lost = 0
        self._takes_records = True
        self._writing = memoryview(b"")
        self._is_good = True
        self._close_limit_s = CLOSE_LIMIT_S
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._run, name="usage-log", daemon=True)

    def open(self) -> None:
        """Open the file and begin to write. Raises OSError if the file cannot be written."""
        self._file.open()
        self._writer.start()

    def add(self, record: UsageRecord) -> None:
        """Take over a record; does not wait for the disk."""
        line = record.line()
        with self._lock:
            is_taken = self._takes_records and self._waiting_bytes + len(line) <= self._max_waiting_bytes
            if is_taken:
                self._waiting += line
                self._waiting_bytes += len(line)
        if not is_taken:
            self._lose(1)

    async def close(self, limit_s: float = CLOSE_LIMIT_S) -> None:
        """Write what waits, put it on the disk and close; tried for so many seconds.

        Call it when no call runs any more: a record that comes later is lost. What cannot be
        written in time is counted as lost. Does nothing the second time.
        """
        if self._writer.ident is None:
            return
        self._close_limit_s = limit_s
        self._closing.set()
        await asyncio.to_thread(self._writer.join, limit_s + HUNG_DISK_S)
        if self._writer.is_alive():
            log.error("usage log hangs", path=str(self._path), waiting_bytes=self._waiting_bytes)

    def _run(self) -> None:
        while not self._closing.wait(FLUSH_INTERVAL_S):
            self._write_waiting()
        give_up_s = time.monotonic() + self._close_limit_s
        while not self._is_finished() and time.monotonic() < give_up_s:
            time.sleep(CLOSE_RETRY_S)
        self._give_up()
        try:
            self._file.close()
        except OSError as error:
            self._failed(error)

    def _is_finished(self) -> bool:
        """Whether everything is written; no record is taken from then on."""
        if not self._write_waiting():
            return False
        with self._lock:
            self._takes_records = bool(self._waiting)
            return not self._takes_records

    def _write_waiting(self) -> bool:
        """Whether every record that waited is written."""
        try:
            while self._writing or self._take_waiting():
                written = self._file.append(self._writing)
                self._writing = self._writing[written:]
                with self._lock:
                    self._waiting_bytes -= written
        except OSError as error:
            self._failed(error)
            return False
        else:
            self._succeeded()
            return True
        finally:
            self._metrics.log_waiting_bytes.set(self._waiting_bytes)

    def _take_waiting(self) -> bool:
        with self._lock:
            lines, self._waiting = self._waiting, bytearray()
        self._writing = memoryview(lines)
        return bool(lines)

    def _give_up(self) -> None:
        """Count what could not be written until the end as lost."""
        with self._lock:
            self._takes_records = False
            left = self._waiting.count(LINE_END) + bytes(self._writing).count(LINE_END)
            self._waiting, self._waiting_bytes, self._writing = bytearray(), 0, memoryview(b"")
        if left:
            self._lose(left)
            log.error("usage records lost", path=str(self._path), records=left)

    def _lose(self, records: int) -> None:
        self._metrics.records_lost.inc(records)
        with self._lock:
            self._lost += records

    def _failed(self, error: OSError) -> None:
        if self._is_good:
            log.error("usage log cannot be written", path=str(self._path), reason=error.strerror)
        self._is_good = False
        self._metrics.log_is_good.set(0)

    def _succeeded(self) -> None:
        if self._is_good:
            return
        with self._lock:
            lost, self._lost = self._lost, 0
        log.info("usage log is written again", path=str(self._path), lost_records=lost)
        self._is_good = True
        self._metrics.log_is_good.set(1)
