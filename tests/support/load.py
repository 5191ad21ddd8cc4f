"""Load on a running mesh: calls at a fixed rate, or so many at a time, with every outcome kept."""

from __future__ import annotations

import asyncio
import dataclasses
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import grpc

from inference_mesh.errors import MeshError


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One call. error: None = it succeeded; times in seconds of `time.monotonic()`."""

    started_s: float
    ended_s: float
    error: MeshError | None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended_s - self.started_s

    @property
    def is_refused(self) -> bool:
        """Whether it was turned away for lack of room."""
        return self.error is not None and self.error.code is grpc.StatusCode.RESOURCE_EXHAUSTED


Send = Callable[[], Awaitable[object]]


async def one_call(send: Send) -> Outcome:
    """The outcome of one call."""
    started = time.monotonic()
    try:
        await send()
    except MeshError as error:
        return Outcome(started, time.monotonic(), error)
    return Outcome(started, time.monotonic(), None)


async def at_rate(send: Send, *, per_s: float, seconds: float) -> list[Outcome]:
    """Calls at a fixed rate, however long each takes; waits for the last one."""
    tasks: list[asyncio.Task[Outcome]] = []
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(int(per_s * seconds)):
            await asyncio.sleep(max(0.0, started + number / per_s - time.monotonic()))
            tasks.append(group.create_task(one_call(send)))
    return [task.result() for task in tasks]


async def at_concurrency(send: Send, *, clients: int, seconds: float) -> list[Outcome]:
    """Calls of so many clients, each with one at a time."""
    ends_at = time.monotonic() + seconds
    outcomes: list[Outcome] = []

    async def client() -> None:
        while time.monotonic() < ends_at:
            outcomes.append(await one_call(send))

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return outcomes


def goodput(outcomes: Sequence[Outcome]) -> float:
    """Successful calls per second, from the first start to the last end."""
    good = [one for one in outcomes if one.error is None]
    if not good:
        return 0.0
    return len(good) / (max(one.ended_s for one in good) - min(one.started_s for one in good))


def percentile(values: Sequence[float], percent: int) -> float:
    """A percentile; 0 of nothing."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    """What failed, as reasons and messages."""
    return [f"{one.error.reason}: {one.error.message}" for one in outcomes if one.error is not None]
