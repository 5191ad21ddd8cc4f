"""The life of a process: start, serve, drain, stop, in one order for every service.

Owns signals and the order. What start, drain and stop mean is the service's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from inference_mesh import telemetry, tracing

log = telemetry.get_logger(__name__)

FORCED_EXIT_CODE = 130
FLUSH_LIMIT_S = 5.0


class Service(Protocol):
    """A server that can be started and stopped in steps."""

    async def start(self) -> None:
        """Load, warm up, listen, and only then report SERVING."""

    async def drain(self) -> None:
        """Report NOT_SERVING at once; calls are still taken."""

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let running ones finish within the grace, then close."""


async def run_service(service: Service, *, drain_delay_s: float, grace_s: float) -> None:
    """Run a service until SIGTERM or SIGINT, then stop it in order.

    The order of a stop: NOT_SERVING, drain delay, refuse new and finish old calls within the
    grace, close, flush telemetry. A second signal ends the process at once.
    """
    stopping = asyncio.Event()
    with _signals(stopping):
        starting = asyncio.ensure_future(service.start())
        stop_asked = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({starting, stop_asked}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        else:
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
        await stop_asked
        log.info("draining", delay_s=drain_delay_s)
        await service.drain()
        await asyncio.sleep(drain_delay_s)
        await service.stop(grace_s)
        if not await asyncio.to_thread(tracing.shutdown_tracing, FLUSH_LIMIT_S):
            log.warning("traces lost", reason="the collector did not take them in time")
        log.info("stopped")


@contextlib.contextmanager
def _signals(stopping: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stopping.is_set():
            os._exit(FORCED_EXIT_CODE)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def write_port_file(path: str | None, **ports: int) -> None:
    """Write ports and pid as JSON, atomically, for who started this process; None = do not."""
    if path is None:
        return
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    with os.fdopen(handle, "w") as stream:
        json.dump({**ports, "pid": os.getpid()}, stream)
    os.replace(temporary, target)
