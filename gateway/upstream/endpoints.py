"""One replica: its connection, its health and the calls on it.

Owns connections. Does not own which replicas there are (`pool`), what is known of their load
(`policy.routing.replica`), or what healthy means (`endpoint_watch`).
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import grpc
import httpx

from gateway.policy.routing.replica import Replica
from gateway.upstream.connection_trouble import connection_trouble
from gateway.upstream.endpoint_watch import Health, Report, watch_grpc_health, watch_http_health
from gateway.upstream.worker_connections import WorkerConnections
from inference_mesh import telemetry
from inference_mesh.metadata import MODEL
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc

log = telemetry.get_logger(__name__)

ASK_LIMIT_S = 1.0
LONGEST_CALL_S = 86_400.0
"""What `timeout_s` of a model may be; streams of requests may be longer."""

Retire = Callable[[], Coroutine[None, None, None]]
"""Waits until the calls of a connection have ended, then closes it."""


class Endpoint(Replica, abc.ABC):
    """One replica. Its name is its address, host:port.

    trouble: why it cannot be reached, one sentence; empty = it can, or nobody knows.
    """

    def __init__(self, model: str, address: str) -> None:
        super().__init__(address)
        self.model = model
        self.is_healthy = False
        self.trouble = ""
        self.description: inference_pb2.Model | None = None
        self.was_probed = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._carried: set[Any] = set()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Count one call as outstanding for the length of a block."""
        self.outstanding += 1
        self._is_idle.clear()
        try:
            yield
        finally:
            self.outstanding -= 1
            if self.outstanding == 0:
                self._is_idle.set()

    @contextlib.contextmanager
    def carrying(self, upstream: Any) -> Iterator[None]:
        """Have `drop_calls` cancel a call to the replica for the length of a block, then end it."""
        self._carried.add(upstream)
        try:
            yield
        finally:
            self._carried.discard(upstream)
            upstream.cancel()

    def drop_calls(self) -> None:
        """End every call that waits for the replica; its reader gets a CancelledError."""
        for upstream in tuple(self._carried):
            upstream.cancel()

    async def idle(self) -> None:
        """Wait until nothing is outstanding."""
        await self._is_idle.wait()

    @abc.abstractmethod
    async def watch(self, report: Report) -> None:
        """Report for ever whether the replica is healthy."""

    @abc.abstractmethod
    async def describe(self) -> None:
        """Ask what the replica says of itself, once; what it does not say stays unknown."""

    def reopen(self) -> Retire | None:
        """Open a new connection for new calls; the end of the old one. None: there is nothing to renew."""
        return None

    @abc.abstractmethod
    async def close(self) -> None:
        """Close the connection."""


class GrpcEndpoint(Endpoint):
    """A worker, with a channel of its own."""

    def __init__(self, model: str, address: str, connections: WorkerConnections, service: str) -> None:
        """service: the name that the address was found by; empty = it stands in the registry."""
        super().__init__(model, address)
        self._connections = connections
        self._service = service
        self._told: set[str] = set()
        self.channel = connections.open(address, service)

    async def watch(self, report: Report) -> None:
        """By grpc.health.v1, under the model's name."""

        def told(health: Health) -> None:
            if health is Health.HEALTHY:
                self.trouble = ""
                self._told.clear()
            report(health)

        await watch_grpc_health(self.channel, self.model, told, self._note_failure)

    async def describe(self) -> None:
        """By GetModel; a worker without it describes itself as nothing."""
        stub: inference_pb2_grpc.InferenceServiceAsyncStub
        stub = inference_pb2_grpc.InferenceServiceStub(self.channel)
        request = inference_pb2.GetModelRequest(model=self.model)
        try:
            answer = await stub.GetModel(request, metadata=((MODEL, self.model),), timeout=ASK_LIMIT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                self.description = inference_pb2.Model()
            return
        self.description = answer.model
        self.slots = answer.model.slots or self.slots

    def reopen(self) -> Retire:
        """Calls take a new channel from now on; the old one is closed when its last call has ended."""
        old, self.channel = self.channel, self._connections.open(self.address, self._service)

        async def retire() -> None:
            try:
                await old.close(LONGEST_CALL_S)
            finally:
                await old.close()

        return retire

    def _note_failure(self, error: grpc.aio.AioRpcError) -> None:
        """Keep why TLS does not come about, and log it: once, until the replica is healthy again."""
        tls = self._connections.tls
        name = (tls.name if tls else "") or self._service or self.address.rpartition(":")[0]
        self.trouble = reason = connection_trouble(error, tls, name)
        if reason and reason not in self._told:
            log.warning("replica cannot be reached", model=self.model, endpoint=self.address, reason=reason)
            self._told.add(reason)

    async def close(self) -> None:
        """Close the channel; calls on it are cancelled."""
        await self.channel.close()


class HttpEndpoint(Endpoint):
    """A service with a path, and its connection pool."""

    def __init__(self, model: str, address: str) -> None:
        super().__init__(model, address)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=2.0)
        self.client = httpx.AsyncClient(base_url=f"http://{address}", limits=limits, trust_env=False)

    async def watch(self, report: Report) -> None:
        """By GET /healthz."""
        await watch_http_health(self.client, report, is_busy=lambda: self.outstanding > 0)

    async def describe(self) -> None:
        """There is no way to ask."""

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()
