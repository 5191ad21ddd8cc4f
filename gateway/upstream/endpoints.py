"""One replica: its connection, its health and the calls on it.

Owns connections. Does not own which replicas there are (`pool`), what is known of their load
(`policy.routing.replica`), or what healthy means (`endpoint_watch`).
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import httpx

from gateway.policy.routing.replica import Replica
from gateway.upstream.endpoint_watch import Report, watch_grpc_health, watch_http_health
from inference_mesh.channels import open_channel
from inference_mesh.metadata import MODEL
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc

ASK_LIMIT_S = 1.0


class Endpoint(Replica, abc.ABC):
    """One replica. Its name is its address, host:port."""

    def __init__(self, model: str, address: str) -> None:
        super().__init__(address)
        self.model = model
        self.is_healthy = False
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

    @abc.abstractmethod
    async def close(self) -> None:
        """Close the connection."""


class GrpcEndpoint(Endpoint):
    """A worker, with a channel of its own."""

    def __init__(self, model: str, address: str, max_message_bytes: int) -> None:
        super().__init__(model, address)
        self.channel = open_channel(address, max_message_bytes=max_message_bytes)

    async def watch(self, report: Report) -> None:
        """By grpc.health.v1, under the model's name."""
        await watch_grpc_health(self.channel, self.model, report)

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
