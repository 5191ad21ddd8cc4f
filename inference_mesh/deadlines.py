"""Deadlines as moments of the event loop's clock, so that a hop passes on what remains."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from inference_mesh.errors import DeadlineExceededError

LONGEST_S = 366 * 24 * 3600.0
"""gRPC reports "no deadline" as a time centuries away; anything past this is none."""


def deadline_of(context: grpc.aio.ServicerContext[Any, Any]) -> float | None:
    """The caller's deadline in the seconds of `loop.time()`; None = the caller set none."""
    return deadline_after(context.time_remaining())


def deadline_after(timeout_s: float | None) -> float | None:
    """The moment `timeout_s` from now, in the seconds of `loop.time()`."""
    if timeout_s is None or timeout_s > LONGEST_S:
        return None
    return asyncio.get_running_loop().time() + timeout_s


def remaining_s(deadline: float | None) -> float | None:
    """Seconds that are left; None = no limit. Raises DeadlineExceededError when none are."""
    if deadline is None:
        return None
    left = deadline - asyncio.get_running_loop().time()
    if left <= 0:
        raise DeadlineExceededError("the deadline passed")
    return left


def earlier(first: float | None, second: float | None) -> float | None:
    """The earlier of two deadlines; None counts as never."""
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)
