"""Makes calls: so many at a time, or so many a second; until a number, a time or a signal.

Owns when calls are made. At a rate they come at random (Poisson), whether earlier ones were
answered or not: a server that slows down does not slow its users.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from mesh_cli.load.outcome import Answered, Outcome

MOST_IN_FLIGHT = 4096
NOT_SENT = "NOT_SENT"
"""The failure of a call that was not made: as many as that were in flight."""

Ask: TypeAlias = Callable[[Callable[[], None]], Awaitable[Answered]]
"""Makes one call; calls its argument at the first piece of the answer. Raises CallError."""


class CallError(Exception):
    """A call failed; `name` is that of its status."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclasses.dataclass(frozen=True, slots=True)
class LoadShape:
    """How much, and for how long.

    concurrency: calls at a time; rate: calls a second instead, None = as concurrency says. It ends
    after so many `requests` or so many seconds, whichever is first; None = not by that.
    """

    concurrency: int
    rate: float | None
    requests: int | None
    duration_s: float | None
    seed: int = 0


class Generator:
    """Runs one load; `outcomes` grows as calls end."""

    def __init__(self, shape: LoadShape, ask: Ask) -> None:
        self._shape = shape
        self._ask = ask
        self._sent = 0
        self._ends_at: float | None = None
        self.outcomes: list[Outcome] = []

    async def run(self) -> None:
        """Make the calls, and wait for the last; cancel it to stop earlier."""
        started = time.perf_counter()
        if self._shape.duration_s is not None:
            self._ends_at = started + self._shape.duration_s
        if self._shape.rate is None:
            async with asyncio.TaskGroup() as callers:
                for _ in range(self._shape.concurrency):
                    callers.create_task(self._caller())
            return
        async with asyncio.TaskGroup() as calls:
            await self._arrivals(self._shape.rate, started, calls)

    async def _caller(self) -> None:
        """One user who asks again as soon as an answer came."""
        while self._may_send(time.perf_counter()):
            self._sent += 1
            await self._call(time.perf_counter())

    async def _arrivals(self, rate: float, started: float, calls: asyncio.TaskGroup) -> None:
        gaps, due = random.Random(self._shape.seed), started
        in_flight: set[asyncio.Task[None]] = set()
        while self._may_send(due):
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            self._sent += 1
            if len(in_flight) >= MOST_IN_FLIGHT:
                now = time.perf_counter()
                self.outcomes.append(Outcome(due, now, now, error=NOT_SENT))
            else:
                task = calls.create_task(self._call(due))
                in_flight.add(task)
                task.add_done_callback(in_flight.discard)
            due += gaps.expovariate(rate)

    def _may_send(self, now: float) -> bool:
        if self._shape.requests is not None and self._sent >= self._shape.requests:
            return False
        return self._ends_at is None or now < self._ends_at

    async def _call(self, due_s: float) -> None:
        first_s: float | None = None

        def note_first() -> None:
            nonlocal first_s
            first_s = first_s or time.perf_counter()

        started_s = time.perf_counter()
        answered, error = Answered(), ""
        try:
            answered = await self._ask(note_first)
        except CallError as failure:
            error = failure.name
        ended_s = time.perf_counter()
        self.outcomes.append(Outcome(due_s, started_s, ended_s, first_s, answered, error))
