"""The addresses behind a service's name: DNS, polled, so that new replicas are found.

gRPC's own resolver asks again only when a connection breaks, and then after 30 s.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from inference_mesh import telemetry
from inference_mesh.channels import address_text
from inference_mesh.config.models_file import Target

log = telemetry.get_logger(__name__)

POLL_INTERVAL_S = 2.0

SetAddresses = Callable[[Sequence[str]], Awaitable[None]]
Resolve = Callable[[Target], Awaitable[list[str]]]


class Discovery:
    """Keeps the addresses of one model current. A name that does not resolve changes nothing."""

    def __init__(
        self,
        set_addresses: SetAddresses,
        *,
        resolve: Resolve | None = None,
        interval_s: float = POLL_INTERVAL_S,
    ) -> None:
        """resolve: the addresses of one name; None = by the machine's own DNS."""
        self._set_addresses = set_addresses
        self._resolve = resolve or _addresses
        self._interval_s = interval_s
        self._targets: tuple[Target, ...] = ()
        self._is_by_name = False
        self._is_retargeted = asyncio.Event()
        self._is_settled = asyncio.Event()
        self._failures: frozenset[Target] = frozenset()

    def retarget(self, targets: tuple[Target, ...], *, is_by_name: bool) -> None:
        """Look these up from now on. is_by_name: each may stand for several replicas."""
        if targets == self._targets and is_by_name == self._is_by_name:
            return
        self._targets, self._is_by_name = targets, is_by_name
        self._is_settled.clear()
        self._is_retargeted.set()

    async def settled(self) -> None:
        """Wait until the current targets were looked up once and their replicas probed."""
        await self._is_settled.wait()

    async def run(self) -> None:
        """Look up for ever."""
        while True:
            self._is_retargeted.clear()
            addresses = await self._look_up()
            if addresses is not None:
                await self._set_addresses(addresses)
            if not self._is_retargeted.is_set():
                self._is_settled.set()
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._is_retargeted.wait()
            except TimeoutError:
                continue

    async def _look_up(self) -> tuple[str, ...] | None:
        """Every address, sorted; None if a name did not resolve."""
        if not self._is_by_name:
            return tuple(sorted(address_text(*target) for target in self._targets))
        found: set[str] = set()
        failed: set[Target] = set()
        for target in self._targets:
            try:
                found.update(await self._resolve(target))
            except OSError:
                failed.add(target)
        self._tell(frozenset(failed))
        return None if failed else tuple(sorted(found))

    def _tell(self, failed: frozenset[Target]) -> None:
        for target in failed - self._failures:
            log.warning("name does not resolve, its last addresses stay", host=target.host)
        self._failures = failed


async def _addresses(target: Target) -> list[str]:
    """Addresses of one name. Raises OSError if it does not resolve."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    return [address_text(str(entry[4][0]), target.port) for entry in found]
