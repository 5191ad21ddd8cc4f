"""Whether an HTTP client is still there, and the end of the work that it no longer wants."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from inference_mesh.errors import CancelledByCallerError

T = TypeVar("T")


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives; it is cancelled as soon as the client leaves.

    request: its body is read. Raises what the work raises, or CancelledByCallerError.
    """
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(_outcome(work))
        watching = tasks.create_task(_cancel_when_gone(request, running))
        await asyncio.wait({running})
        watching.cancel()
    if running.cancelled():
        raise CancelledByCallerError("the client left before the answer was complete")
    outcome, failure = running.result()
    if failure is not None:
        raise failure
    return outcome[0]


async def _outcome(work: Coroutine[Any, Any, T]) -> tuple[tuple[T, ...], Exception | None]:
    """The result or the failure as a value: a task group would wrap what is raised."""
    try:
        return (await work,), None
    except Exception as error:  # noqa: BLE001 - raised again outside of the group
        return (), error


async def _cancel_when_gone(request: Request, work: asyncio.Task[Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    work.cancel()
