"""grpc.health.v1 of a process: itself under "", and each model under its name.

What SERVING means is the process's own: a worker's model is loaded, a gateway's has at least
one healthy replica. Needs no key. Unlike grpcio's own servicer it ends open Watch streams at
a stop, which would otherwise hold the server up for the whole grace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from inference_mesh.errors import ModelNotFoundError
from inference_mesh.messages import parsed

HEALTH_SERVICE = "grpc.health.v1.Health"

Context = grpc.aio.ServicerContext[Any, Any]

_pb: Any = health_pb2  # its stubs lack List
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class HealthBoard:
    """Owns the statuses; the handlers of Check, Watch and List."""

    def __init__(self, readiness: Callable[[], dict[str, bool]]) -> None:
        """readiness: whether each name is served, at this moment."""
        self._readiness = readiness
        self._statuses: dict[str, Any] = {}
        self._is_serving = False
        self._is_closed = False
        self._renewed = asyncio.Event()

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """Handlers of Health, by method, over raw bytes."""
        return {
            "Check": grpc.unary_unary_rpc_method_handler(self.check),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch),
            "List": grpc.unary_unary_rpc_method_handler(self.list),
        }

    def serve(self) -> None:
        """Report SERVING from now on."""
        self._is_serving = True
        self.renew()

    def withdraw(self) -> None:
        """Report NOT_SERVING from now on, for every name."""
        self._is_serving = False
        self.renew()

    def close(self) -> None:
        """End every Watch: an open one would hold up the server's stop."""
        self._is_closed = True
        self._wake()

    def renew(self) -> None:
        """Report what is true now."""
        models = self._readiness()
        wanted = {"": SERVING if self._is_serving else NOT_SERVING}
        for name, is_ready in models.items():
            wanted[name] = SERVING if is_ready and self._is_serving else NOT_SERVING
        self._statuses = wanted
        self._wake()

    async def check(self, message: bytes, context: Context) -> bytes:
        """One status; NOT_FOUND for a name that is none."""
        status = self._statuses.get(parsed(health_pb2.HealthCheckRequest, message).service)
        if status is None:
            raise ModelNotFoundError("there is no such service")
        return health_pb2.HealthCheckResponse(status=status).SerializeToString()

    async def watch(self, message: bytes, context: Context) -> None:
        """One status, now and whenever it changes."""
        service = parsed(health_pb2.HealthCheckRequest, message).service
        last: Any = None
        while not self._is_closed:
            renewed = self._renewed
            status = self._statuses.get(service, SERVICE_UNKNOWN)
            if status != last:
                await context.write(health_pb2.HealthCheckResponse(status=status).SerializeToString())
            last = status
            await renewed.wait()

    async def list(self, message: bytes, context: Context) -> bytes:
        """Every status."""
        parsed(_pb.HealthListRequest, message)
        statuses = {name: _pb.HealthCheckResponse(status=status) for name, status in self._statuses.items()}
        answer: bytes = _pb.HealthListResponse(statuses=statuses).SerializeToString()
        return answer

    def _wake(self) -> None:
        """Wake every Watch; each waits on the event that was current when it looked."""
        self._renewed.set()
        self._renewed = asyncio.Event()
