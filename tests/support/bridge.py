"""A REST bridge in this process, before a fake gateway; and raw sockets to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

from inference_mesh.settings import load_settings
from rest_bridge.server import BridgeService
from rest_bridge.settings import BridgeSettings
from tests.fakes.fake_gateway import FakeGateway


@dataclass(frozen=True)
class RunningBridge:
    """The bridge, its gateway and a client."""

    service: BridgeService
    gateway: FakeGateway
    http: httpx.AsyncClient

    @property
    def in_flight(self) -> float:
        """Requests that the bridge is answering."""
        return self.service.metrics.registry.get_sample_value("mesh_bridge_in_flight") or 0.0

    async def infer(self, document: Any, **headers: str) -> httpx.Response:
        """POST /api/infer."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post("/api/infer", json=document, headers=names)


@contextlib.asynccontextmanager
async def running_bridge(**settings: Any) -> AsyncIterator[RunningBridge]:
    """A bridge on a free port."""
    async with FakeGateway() as gateway:
        overrides = {"gateway": gateway.target, "http_port": 0, **settings}
        service = BridgeService(load_settings(BridgeSettings, overrides))
        await service.start()
        base = f"http://127.0.0.1:{service.port}"
        try:
            async with httpx.AsyncClient(base_url=base, timeout=20, trust_env=False) as client:
                yield RunningBridge(service, gateway, client)
        finally:
            await service.stop(0.0)


@dataclass(frozen=True)
class RawConnection:
    """A TCP connection to an HTTP port, for requests that no client library would send."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def until_closed(self, limit_s: float = 10.0) -> bytes:
        """All that comes until the server closes. Raises TimeoutError."""
        received = b""
        async with asyncio.timeout(limit_s):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(65536):
                    received += data
        return received


@contextlib.asynccontextmanager
async def raw_connection(port: int) -> AsyncIterator[RawConnection]:
    """A connection to a port of this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def post(body: bytes, *headers: str) -> bytes:
    """A POST /api/infer as bytes."""
    lines = ["POST /api/infer HTTP/1.1", "host: test", "content-type: application/json", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
