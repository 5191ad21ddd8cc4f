from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from gateway.upstream.discovery import Discovery
from inference_mesh.config.models_file import Target

WORKERS = Target("workers.ai-models.svc", 50051)


class Dns:
    """Names that resolve as a test says, and what was made of the answers."""

    def __init__(self) -> None:
        self.answer: list[str] | None = []
        self.seen: list[list[str]] = []
        self.changed = asyncio.Event()

    async def resolve(self, target: Target) -> list[str]:
        """The answer; OSError where there is none."""
        if self.answer is None:
            raise OSError("no such name")
        return [f"{address}:{target.port}" for address in self.answer]

    async def take(self, addresses: Sequence[str]) -> None:
        """Keep what the discovery found."""
        self.seen.append(list(addresses))
        self.changed.set()

    async def until_seen(self, *addresses: str) -> None:
        """Wait until these are the addresses."""
        async with asyncio.timeout(5):
            while not self.seen or self.seen[-1] != list(addresses):
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def _discovering(dns: Dns) -> AsyncIterator[Discovery]:
    discovery = Discovery(dns.take, resolve=dns.resolve, interval_s=0.001)
    running = asyncio.ensure_future(discovery.run())
    try:
        yield discovery
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_pods_that_appear_and_disappear_behind_a_name_are_followed() -> None:
    dns = Dns()
    dns.answer = ["10.0.0.2", "10.0.0.1"]
    async with _discovering(dns) as discovery:
        discovery.retarget((WORKERS,), is_by_name=True)
        await dns.until_seen("10.0.0.1:50051", "10.0.0.2:50051")
        dns.answer = ["10.0.0.2", "10.0.0.3"]
        await dns.until_seen("10.0.0.2:50051", "10.0.0.3:50051")


async def test_a_name_that_stops_resolving_changes_nothing() -> None:
    dns = Dns()
    dns.answer = ["10.0.0.1"]
    async with _discovering(dns) as discovery:
        discovery.retarget((WORKERS,), is_by_name=True)
        await dns.until_seen("10.0.0.1:50051")
        dns.answer = None
        await asyncio.sleep(0.05)
        assert dns.seen[-1] == ["10.0.0.1:50051"]
        dns.answer = ["10.0.0.9"]
        await dns.until_seen("10.0.0.9:50051")


async def test_fixed_endpoints_are_not_looked_up() -> None:
    dns = Dns()
    dns.answer = None
    async with _discovering(dns) as discovery:
        discovery.retarget((Target("127.0.0.1", 7), Target("::1", 8)), is_by_name=False)
        await dns.until_seen("127.0.0.1:7", "[::1]:8")
