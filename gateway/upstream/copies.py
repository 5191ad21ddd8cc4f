"""Sends copies of calls to a replica and brings the whole answer back.

Owns one attempt: a copy is never retried, and a caller's calls are never measured by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import Any

from gateway.admission.admissions import Admissions
from gateway.methods import path_of
from gateway.shadow.shadow_call import ShadowRequest
from gateway.upstream.fleet import Fleet, GrpcModel
from inference_mesh.errors import OverloadedError, UnavailableError


class Copies:
    """Asks replicas on behalf of shadows."""

    def __init__(self, fleet: Fleet, admissions: Admissions, rng: random.Random) -> None:
        self._fleet = fleet
        self._admissions = admissions
        self._rng = rng

    async def send(self, request: ShadowRequest) -> tuple[bytes, ...]:
        """Every message of the answer. Raises UnavailableError, OverloadedError and grpc.RpcError."""
        model = self._fleet.target(request.target.model, request.target.version)
        if not isinstance(model, GrpcModel):
            raise UnavailableError("the shadow has no replica that speaks gRPC")
        endpoint = model.pool.pick((), asyncio.get_running_loop().time(), self._rng)
        if endpoint is None:
            raise UnavailableError("the shadow has no replica")
        path = path_of(request.method)
        with self._turn(model), endpoint.in_use():
            if request.method == "InferStream":
                stream: Any = endpoint.channel.unary_stream(path, None, None)
                call = stream(request.message, metadata=request.metadata, timeout=request.timeout_s)
                return tuple([piece async for piece in call])
            unary: Any = endpoint.channel.unary_unary(path, None, None)
            answer = await unary(request.message, metadata=request.metadata, timeout=request.timeout_s)
            return (answer,)

    @contextlib.contextmanager
    def _turn(self, model: GrpcModel) -> Iterator[None]:
        """A turn at the target, if there is one right now. Raises OverloadedError."""
        queue = self._admissions.of(model.entry.name, model.version)
        if not queue.try_spare():
            raise OverloadedError("callers leave no room for a copy")
        try:
            yield
        finally:
            queue.leave_spare()
