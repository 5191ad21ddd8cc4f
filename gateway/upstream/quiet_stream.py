"""When a stream of requests in which nothing moves is ended.

Such a stream has no end of its own and holds a place of its caller's limits and a call of a
worker, so one that its caller forgot would hold them for ever. Who is silent tells what is wrong.
"""

from __future__ import annotations

import asyncio

from gateway.call import Call
from inference_mesh.errors import DeadlineExceededError, InvalidInputError

LOOKS = 4
"""How often we look within the limit; the end comes up to one look late."""


class QuietStream:
    """Watches both directions of one stream. asked: messages of the caller. is_whole: whether it said all."""

    def __init__(self, call: Call, limit_s: float) -> None:
        """limit_s: how long nothing may move."""
        self._call = call
        self._limit_s = limit_s
        self.asked = 1
        self.is_whole = False

    async def watch(self) -> None:
        """Return never. Raises once nothing moved for the limit.

        Raises InvalidInputError if the caller has its answers and asks nothing more, and
        DeadlineExceededError if the worker owes one.
        """
        moved, quiet_looks = self._moved(), 0
        while quiet_looks < LOOKS:
            await asyncio.sleep(self._limit_s / LOOKS)
            before, moved = moved, self._moved()
            quiet_looks = quiet_looks + 1 if moved == before else 0
        if self._call.delivered >= self.asked and not self.is_whole:
            raise InvalidInputError(f"the stream had no request for {self._limit_s:g} s; close it, or ask")
        raise DeadlineExceededError(f"the stream had no answer for {self._limit_s:g} s")

    def _moved(self) -> tuple[int, int]:
        return self.asked, self._call.delivered
