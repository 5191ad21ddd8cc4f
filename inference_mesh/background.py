"""The tasks that live as long as a process: what watches files, names and other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

from inference_mesh import telemetry

log = telemetry.get_logger(__name__)

RESTART_DELAY_S = 1.0

Job = Callable[[], Coroutine[None, None, None]]


class Background:
    """Owns one TaskGroup, entered and left by one task of its own.

    A job that fails is logged and started again: a defect in one watcher ends no other.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._is_open = asyncio.Event()
        self._is_closing = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._owner: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Take jobs from now on."""
        self._owner = asyncio.ensure_future(self._own())
        await self._is_open.wait()

    async def close(self) -> None:
        """Cancel every job and wait until all have ended."""
        self._is_closing.set()
        if self._owner is not None:
            await self._owner

    def spawn(self, name: str, job: Job) -> asyncio.Task[None]:
        """Run a job until it returns; cancel the task to stop it before."""
        task = self._group.create_task(_guarded(name, job), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _own(self) -> None:
        async with self._group:
            self._is_open.set()
            await self._is_closing.wait()
            for task in tuple(self._tasks):
                task.cancel()


async def within(limit_s: float, waiting: Awaitable[object]) -> bool:
    """Whether something happened within so many seconds; it is cancelled if not."""
    try:
        async with asyncio.timeout(limit_s):
            await waiting
    except TimeoutError:
        return False
    return True


async def _guarded(name: str, job: Job) -> None:
    while True:
        try:
            await job()
        except Exception as error:
            log.exception("background job failed", job=name, exception=type(error).__name__)
            await asyncio.sleep(RESTART_DELAY_S)
        else:
            return
