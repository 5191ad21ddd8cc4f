"""What it means that a caller cannot be told something any more."""

from __future__ import annotations

import asyncio

import grpc

from inference_mesh.deadlines import remaining_s
from inference_mesh.errors import CancelledByCallerError, DeadlineExceededError, MeshError

NOBODY_LISTENS = (grpc.aio.InternalError, asyncio.InvalidStateError)
"""What grpc.aio raises when metadata or a message go to a call that ended (1.85.1)."""


def absence(deadline: float | None) -> MeshError:
    """Why nobody listens: the caller's time is over, or it left. deadline: on the loop's clock."""
    try:
        remaining_s(deadline)
    except DeadlineExceededError as error:
        return error
    return CancelledByCallerError("the caller left")
