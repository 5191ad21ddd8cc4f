"""Limits on the body of an HTTP request, for any ASGI application.

Owns the size of a body, the time that it may take and the bytes that all bodies together may
hold. The head of a request and idle connections are `http_protocol`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from inference_mesh import http_errors, request_ids, telemetry
from inference_mesh.channels import MAX_MESSAGE_BYTES
from inference_mesh.errors import InvalidInputError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_TIMEOUT_S = 30.0
BODY_IDLE_TIMEOUT_S = 10.0
MAX_TOTAL_BODY_BYTES = 256 * 1024 * 1024


class RequestLimits:
    """An application whose requests have bodies of bounded size and time.

    Refusals are 413 (too large), 408 (too slow) and 503 (all bodies together hold too much).
    The application sees a client that left; what it still says is not sent.
    """

    def __init__(
        self,
        app: AsgiApp,
        *,
        max_body_bytes: int = MAX_MESSAGE_BYTES,
        body_timeout_s: float = BODY_TIMEOUT_S,
        idle_timeout_s: float = BODY_IDLE_TIMEOUT_S,
        max_total_body_bytes: int = MAX_TOTAL_BODY_BYTES,
    ) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._max_total_body_bytes = max_total_body_bytes
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or answer for it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _declared_bytes(scope) > self._max_body_bytes:
            await refuse(413, self._too_large(), scope, send)
            return
        exchange = _Exchange(self, scope, receive, send)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception:
            if not exchange.is_refused:
                raise
        finally:
            self._held_bytes -= exchange.body_bytes

    def hold(self, size: int, body_bytes: int) -> tuple[int, str] | None:
        """Count bytes of a body; the refusal if it, or all together, are over the limit."""
        self._held_bytes += size
        if body_bytes > self._max_body_bytes:
            return 413, self._too_large()
        if self._held_bytes > self._max_total_body_bytes:
            return 503, "too many large requests at once"
        return None

    def timeout_at(self, begun: float, now: float) -> float:
        """When the next piece of a body that was begun then must have come."""
        return min(begun + self._body_timeout_s, now + self._idle_timeout_s)

    def _too_large(self) -> str:
        return f"the body is too large; allowed are {self._max_body_bytes} bytes"


class _Exchange:
    """`receive` and `send` of one request, until its body is complete under the limits."""

    def __init__(self, limits: RequestLimits, scope: Scope, receive: Receive, send: Send) -> None:
        self.body_bytes = 0
        self.is_refused = False
        self._limits = limits
        self._scope = scope
        self._receive = receive
        self._send = send
        self._begun = asyncio.get_running_loop().time()
        self._is_complete = False
        self._is_answered = False

    async def receive(self) -> Message:
        """The next piece; a disconnect once the request is refused."""
        if self.is_refused:
            return {"type": "http.disconnect"}
        if self._is_complete:
            return await self._receive()
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(self._limits.timeout_at(self._begun, now)):
                message = await self._receive()
        except TimeoutError:
            return await self._refuse(408, "the body did not arrive in time")
        if message["type"] == "http.request":
            self._is_complete = not message.get("more_body", False)
            size = len(message.get("body", b""))
            self.body_bytes += size
            if (refusal := self._limits.hold(size, self.body_bytes)) is not None:
                return await self._refuse(*refusal)
        return message

    async def send(self, message: Message) -> None:
        """Pass the application's answer on, unless one was given for it."""
        if not self.is_refused:
            self._is_answered = True
            await self._send(message)

    async def _refuse(self, status: int, message: str) -> Message:
        self.is_refused = True
        if not self._is_answered:
            await refuse(status, message, self._scope, self._send)
        return {"type": "http.disconnect"}


async def refuse(status: int, message: str, scope: Scope, send: Send) -> None:
    """Answer a request with an error of HTTP itself, in the mesh's form."""
    request_id = telemetry.current_request_id.get() or _request_id(scope)
    status, headers, body = http_errors.answer_of_status(status, message, request_id)
    headers.append((b"x-request-id", request_id.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _declared_bytes(scope: Scope) -> int:
    """Content-Length; 0 where there is none. The parser has refused what is no number."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(declared[:20])


def _request_id(scope: Scope) -> str:
    """The caller's id if it is fit, else a new one; a refusal needs no second reason."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    with contextlib.suppress(InvalidInputError):
        return request_ids.request_id_from(given.decode("latin-1"))
    return request_ids.request_id_from(None)
