"""HTTP/1.1 connections that cannot be held open for nothing.

uvicorn never closes a silent connection, a slow head of a request or a reader that does not
read (measured with 0.54). This protocol adds what is missing: each connection has a phase
with a time limit, a sweep closes those over it, the table of connections has a cap, and the
head of a request a size. The time that a body may take is `asgi_limits`' business.

Pipelining is not offered: a second request that comes before the answer to the first is
dropped with the connection after that answer, which RFC 9112 (9.3.2) lets a client expect.
"""

from __future__ import annotations

import asyncio
import enum
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from inference_mesh import http_errors, request_ids

LEAST_DRAINED_BYTES = 16 * 1024
"""A reader that takes less than this within the write timeout is as good as gone."""

MOST_DISCARDED_BYTES = 64 * 1024 * 1024
"""Input that arrives after the answer is thrown away up to here, then the connection is cut.
Most clients send a whole body before they read that it was too large."""

_UPGRADE_HEADER = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)


@dataclass(frozen=True)
class HttpLimits:
    """What one HTTP server bears; seconds and bytes."""

    max_connections: int = 1024
    max_header_bytes: int = 16 * 1024
    max_header_count: int = 100
    header_timeout_s: float = 10.0
    keep_alive_s: float = 65.0
    """Longer than the 60 s for which ingress-nginx keeps an idle connection to a pod."""
    write_timeout_s: float = 30.0
    linger_s: float = 2.0
    """How long input is still taken after an answer, so that the client can read it."""

    @property
    def sweep_interval_s(self) -> float:
        """How often limits are looked at: often against the shortest, at most once a second."""
        shortest = min(self.header_timeout_s, self.keep_alive_s, self.write_timeout_s, self.linger_s)
        return min(1.0, max(0.02, shortest / 5))


class Phase(enum.Enum):
    """Where a connection stands."""

    HEAD = "waiting for the whole head of a request"
    REQUEST = "a request is being answered"
    IDLE = "kept alive between two requests"
    LINGER = "answered; what still arrives is thrown away"


class Verdict(enum.Enum):
    """What the sweep does with a connection."""

    KEEP = "keep"
    CLOSE = "close"
    REFUSE = "answer 408, then close"


@dataclass(frozen=True)
class ConnectionAge:
    """What the sweep knows of a connection."""

    phase: Phase
    phase_s: float
    head_bytes: int
    stalled_s: float


def judge(age: ConnectionAge, limits: HttpLimits) -> Verdict:
    """Whether a connection is over a limit of its phase."""
    if age.stalled_s > limits.write_timeout_s:
        return Verdict.CLOSE
    if age.phase is Phase.HEAD and age.phase_s > limits.header_timeout_s:
        return Verdict.REFUSE if age.head_bytes else Verdict.CLOSE
    if age.phase is Phase.IDLE and age.phase_s > limits.keep_alive_s:
        return Verdict.CLOSE
    if age.phase is Phase.LINGER and age.phase_s > limits.linger_s:
        return Verdict.CLOSE
    return Verdict.KEEP


class ConnectionTable:
    """The open connections of one server: their number, their sweep, their end."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self._open: dict[GuardedProtocol, None] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._timer: asyncio.TimerHandle | None = None
        self._date: tuple[int, bytes] = (0, b"")

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[GuardedProtocol]:
        return iter(list(self._open))

    def admit(self, connection: GuardedProtocol) -> bool:
        """Take a connection in; at the cap only in place of one that waits for nothing."""
        if len(self._open) >= self.limits.max_connections and not self._evict_one():
            return False
        self._open[connection] = None
        self._empty.clear()
        return True

    def discard(self, connection: GuardedProtocol) -> None:
        """Forget a connection that is closed."""
        self._open.pop(connection, None)
        if not self._open:
            self._empty.set()

    def start_sweeping(self) -> None:
        """Look at every connection again and again, until stopped."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.limits.sweep_interval_s, self._sweep)

    def stop_sweeping(self) -> None:
        """Leave the connections alone."""
        if self._timer is not None:
            self._timer.cancel()

    async def wait_empty(self) -> None:
        """Return when no connection is open."""
        await self._empty.wait()

    def date_header(self) -> tuple[bytes, bytes]:
        """The Date header of an answer that is sent now."""
        now = int(time.time())
        if self._date[0] != now:
            self._date = (now, formatdate(now, usegmt=True).encode())
        return (b"date", self._date[1])

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in self:
            connection.act(judge(connection.age(now), self.limits))
        self.start_sweeping()

    def _evict_one(self) -> bool:
        """Close the oldest connection that is idle or has sent nothing; False if none is."""
        for connection in self._open:
            if connection.waits_for_nothing:
                connection.act(Verdict.CLOSE)
                self.discard(connection)
                return True
        return False


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's connection with phases, a limit on the head, and typed refusals."""

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], table: ConnectionTable
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._table = table
        self._phase = Phase.HEAD
        self._phase_since = self.loop.time()
        self._head_bytes = 0
        self._discarded_bytes = 0
        self._is_deaf = False
        self._refusal: tuple[int, str] | None = None
        self._write_mark = 0
        self._write_since = self._phase_since

    @property
    def waits_for_nothing(self) -> bool:
        """True if closing it breaks no request."""
        return self._phase is Phase.IDLE or (self._phase is Phase.HEAD and not self._head_bytes)

    def age(self, now: float) -> ConnectionAge:
        """What the sweep judges; notes on the way whether the peer reads."""
        self._note_write_progress(now)
        return ConnectionAge(self._phase, now - self._phase_since, self._head_bytes, now - self._write_since)

    def act(self, verdict: Verdict) -> None:
        """Carry out a verdict."""
        if verdict is Verdict.REFUSE:
            self._refuse(408, "the head of the request did not arrive in time")
        elif verdict is Verdict.CLOSE:
            self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it in, or refuse it when the table is full."""
        super().connection_made(transport)
        if not self._table.admit(self):
            self._refuse(503, "too many connections")
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out."""
        self._table.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a head that grows past its limit is refused before it is complete."""
        if self._is_deaf or self._phase is Phase.LINGER:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > MOST_DISCARDED_BYTES:
                self.transport.abort()
            if self._is_deaf:
                return
        if self._phase is Phase.IDLE:
            self._enter(Phase.HEAD)
        if self._phase is Phase.HEAD and not self._head_bytes:
            data = _without_upgrade(data)
        super().data_received(data)
        if self._phase is Phase.HEAD:
            self._head_bytes += len(data)
            if self._head_bytes > self._table.limits.max_header_bytes:
                self._refuse(431, "the head of the request is too large")

    def on_message_begin(self) -> None:
        """Start a request; raises (to the parser) on a pipelined one."""
        if self._phase is Phase.REQUEST:
            raise ValueError("pipelined request")
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start the application, unless the head is too large."""
        limits = self._table.limits
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > limits.max_header_bytes or len(self.headers) > limits.max_header_count:
            self._refusal = (431, "the head of the request is too large")
            raise ValueError("head too large")
        if self.parser.should_upgrade():
            raise ValueError("llhttp would take the body for another protocol's bytes")
        self.server_state.default_headers = [self._table.date_header()]
        super().on_headers_complete()
        self._enter(Phase.REQUEST)

    def on_message_complete(self) -> None:
        """The body is complete; if the answer was faster, the connection is free again."""
        super().on_message_complete()
        if self._phase is Phase.LINGER and not self._is_deaf:
            self._enter(Phase.IDLE)

    def on_response_complete(self) -> None:
        """The answer is complete; if the body is not, only its rest is still taken."""
        super().on_response_complete()
        self._enter(Phase.LINGER if self.cycle.more_body else Phase.IDLE)

    def resume_writing(self) -> None:
        """The peer took what was buffered."""
        super().resume_writing()
        self._write_since = self.loop.time()

    def send_400_response(self, msg: str) -> None:
        """Answer input that the parser refused; uvicorn calls it by this name."""
        if self._phase is Phase.LINGER:
            self._is_deaf = True
        elif self._phase is Phase.REQUEST and not self.cycle.more_body:
            self._is_deaf = True
            self.cycle.keep_alive = False
        elif self._phase is Phase.REQUEST and self.cycle.response_started:
            self.transport.abort()
        else:
            self._drop_request()
            self._refuse(*(self._refusal or (400, "not a valid HTTP/1.1 request")))

    def _unsupported_upgrade_warning(self) -> None:
        """No line in the log for each client that would like HTTP/2 or a WebSocket."""

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._phase_since = self.loop.time()
        self._head_bytes = self._discarded_bytes = 0

    def _drop_request(self) -> None:
        """Tell the application, if it has begun, that the rest of its body will not come."""
        if self._phase is Phase.REQUEST:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _refuse(self, status: int, message: str) -> None:
        """Answer, close this side, and take what still arrives for a moment.

        Closing at once would reset the connection, and the client might never read the answer.
        """
        if self._is_deaf or self.transport.is_closing():
            return
        _, headers, body = http_errors.answer_of_status(status, message, request_ids.request_id_from(None))
        lines = [b"%s: %s\r\n" % header for header in (*headers, self._table.date_header())]
        self.transport.write(b"".join([STATUS_LINE[status], *lines, b"connection: close\r\n\r\n", body]))
        self.transport.write_eof()
        self._is_deaf = True
        self._enter(Phase.LINGER)

    def _note_write_progress(self, now: float) -> None:
        size = self.transport.get_write_buffer_size()
        drained = self._write_mark - size
        if size == 0 or drained >= min(LEAST_DRAINED_BYTES, self._write_mark):
            self._write_mark, self._write_since = size, now
        self._write_mark = max(self._write_mark, size)


def _without_upgrade(data: bytes) -> bytes:
    """The start of a request without its Upgrade header, which a server may ignore.

    httptools takes the body of a request that has one for bytes of another protocol, and
    Java's HttpClient sends `Upgrade: h2c` with its first POST. A head that comes in several
    pieces keeps the header, and is refused.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    if not end or b"pgrade" not in head.lower():
        return data
    return _UPGRADE_HEADER.sub(b"", head) + end + body
