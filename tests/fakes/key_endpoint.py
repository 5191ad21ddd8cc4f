"""An issuer's JWKS address over real HTTP, which can be slow, wrong, redirecting, or gone."""

from __future__ import annotations

import asyncio


class KeyEndpoint:
    """Owns one listening port; counts how often it is asked."""

    def __init__(self, body: str) -> None:
        self.body = body.encode()
        self.status = "200 OK"
        self.headers = ""
        self.asked = 0
        self.port = 0
        self._may_answer = asyncio.Event()
        self._may_answer.set()
        self._server: asyncio.Server | None = None
        self._was_asked = asyncio.Condition()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}/keys.json"

    async def start(self) -> None:
        """Listen: on any free port at first, on the same one again afterwards."""
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Be gone: connections are refused."""
        self._may_answer.set()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def stall(self) -> None:
        """Take connections, and answer nobody."""
        self._may_answer.clear()

    def resume(self) -> None:
        """Answer again, also those who wait."""
        self._may_answer.set()

    async def asked_times(self, count: int) -> None:
        """Wait until it was asked so often."""
        async with asyncio.timeout(10), self._was_asked:
            await self._was_asked.wait_for(lambda: self.asked >= count)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            async with self._was_asked:
                self.asked += 1
                self._was_asked.notify_all()
            await self._may_answer.wait()
            head = f"HTTP/1.1 {self.status}\r\ncontent-length: {len(self.body)}\r\n{self.headers}\r\n"
            writer.write(head.encode() + self.body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
