"""A thread that does one thing after another, for a native library that allows no second one.

Owns the thread and the hand-over of results. It is a daemon: a process that must end at once does
not wait for what it computes.
"""

from __future__ import annotations

import concurrent.futures
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class NativeThread:
    """Runs functions in the order in which they came, all in one thread."""

    def __init__(self, name: str) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, function: Callable[[], T]) -> concurrent.futures.Future[T]:
        """The result of a function, to come; also its exception."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        future.set_running_or_notify_cancel()

        def work() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
                future.set_exception(error)

        self._work.put(work)
        return future

    def end(self) -> None:
        """End the thread once it has done what was submitted."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
