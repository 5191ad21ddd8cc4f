"""Callers beside a test, in a thread with an event loop of their own, until they are stopped."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any

import httpx

from inference_mesh.errors import MeshError

Run = Callable[[], Coroutine[Any, Any, None]]
Ask = Callable[[], Awaitable[object]]

AFTER_ERROR_S = 0.05


class BackgroundLoad:
    """Owns the thread and what runs in it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="load", daemon=True)
        self._running: dict[str, Future[None]] = {}

    def start(self, name: str, run: Run) -> None:
        """Have these callers call until they are stopped."""
        if not self._thread.is_alive():
            self._thread.start()
        self._running[name] = asyncio.run_coroutine_threadsafe(run(), self._loop)

    def check(self) -> None:
        """Raise what callers failed with that is no answer of the mesh."""
        for running in self._running.values():
            if running.done():
                running.result()

    def stop(self, name: str) -> None:
        """Let these callers leave. Safe to call twice."""
        running = self._running.pop(name, None)
        if running is not None:
            running.cancel()

    def end(self) -> None:
        """Let all leave, and end the thread."""
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    async def _leave(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def again_and_again(ask: Ask, pause_s: float = 0.0) -> None:
    """Ask for ever, with a pause after each answer; an error is an answer as well."""
    while True:
        pause = pause_s
        try:
            await ask()
        except (MeshError, httpx.HTTPError):
            pause = max(pause_s, AFTER_ERROR_S)
        await asyncio.sleep(pause)


@contextlib.contextmanager
def background_load() -> Iterator[BackgroundLoad]:
    """A load that is ended with the block."""
    load = BackgroundLoad()
    try:
        yield load
    finally:
        load.end()
