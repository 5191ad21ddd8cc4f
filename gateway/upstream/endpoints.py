"""The replicas of one model: which there are, which may be picked, how busy each is.

Owns connections and counts. Does not own the choice (`policy.pick`), the look-up of names
(`discovery`), or what healthy means (`endpoint_watch`).
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import random
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Generic, TypeVar

import httpx

from gateway.background import Background, within
from gateway.metrics import GatewayMetrics
from gateway.policy.routing.pick import pick
from gateway.upstream.endpoint_watch import watch_grpc_health, watch_http_health
from inference_mesh import telemetry
from inference_mesh.channels import open_channel
from inference_mesh.v1 import inference_pb2

log = telemetry.get_logger(__name__)

SHORTEST_EJECTION_S, LONGEST_EJECTION_S = 0.5, 1.0
FIRST_PROBE_LIMIT_S = 1.0
DRAIN_LIMIT_S = 300.0


class Endpoint(abc.ABC):
    """One replica. Its name is its address, host:port."""

    def __init__(self, model: str, address: str) -> None:
        self.model = model
        self.address = address
        self.outstanding = 0
        self.is_healthy = False
        self.ejected_until_s = 0.0
        self.description: inference_pb2.Model | None = None
        self.was_probed = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()

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

    async def idle(self) -> None:
        """Wait until nothing is outstanding."""
        await self._is_idle.wait()

    @abc.abstractmethod
    async def watch(self, report: Callable[[bool], None]) -> None:
        """Report for ever whether the replica is healthy."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Close the connection."""


class GrpcEndpoint(Endpoint):
    """A worker, with a channel of its own."""

    def __init__(self, model: str, address: str, max_message_bytes: int) -> None:
        super().__init__(model, address)
        self.channel = open_channel(address, max_message_bytes=max_message_bytes)

    async def watch(self, report: Callable[[bool], None]) -> None:
        """By grpc.health.v1, under the model's name."""
        await watch_grpc_health(self.channel, self.model, report)

    async def close(self) -> None:
        """Close the channel; calls on it are cancelled."""
        await self.channel.close()


class HttpEndpoint(Endpoint):
    """A service with a path, and its connection pool."""

    def __init__(self, model: str, address: str) -> None:
        super().__init__(model, address)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=2.0)
        self.client = httpx.AsyncClient(base_url=f"http://{address}", limits=limits, trust_env=False)

    async def watch(self, report: Callable[[bool], None]) -> None:
        """By GET /healthz."""
        await watch_http_health(self.client, report, is_busy=lambda: self.outstanding > 0)

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()


E = TypeVar("E", bound=Endpoint)


class EndpointPool(Generic[E]):
    """Owns the replicas of one model."""

    def __init__(
        self,
        model: str,
        open_endpoint: Callable[[str], E],
        background: Background,
        metrics: GatewayMetrics,
        on_change: Callable[[], None],
    ) -> None:
        """open_endpoint: makes the replica of an address. on_change: called when one changed."""
        self.model = model
        self.description: inference_pb2.Model | None = None
        self._open_endpoint = open_endpoint
        self._background = background
        self._metrics = metrics
        self._on_change = on_change
        self._endpoints: dict[str, E] = {}
        self._watches: dict[E, asyncio.Task[None]] = {}

    @property
    def endpoints(self) -> tuple[E, ...]:
        """Every replica, healthy or not."""
        return tuple(self._endpoints.values())

    @property
    def ready(self) -> tuple[E, ...]:
        """The healthy replicas."""
        return tuple(endpoint for endpoint in self._endpoints.values() if endpoint.is_healthy)

    def pick(self, tried: Collection[E], now_s: float, rng: random.Random) -> E | None:
        """A healthy replica: not tried yet and not ejected if there is one, else any."""
        ready = self.ready
        fresh = [endpoint for endpoint in ready if endpoint not in tried]
        steady = [endpoint for endpoint in fresh if endpoint.ejected_until_s <= now_s]
        return pick(steady or fresh or ready, rng)

    def eject(self, endpoint: E, now_s: float, rng: random.Random) -> None:
        """Leave a replica out for a moment, as long as others can answer."""
        endpoint.ejected_until_s = now_s + rng.uniform(SHORTEST_EJECTION_S, LONGEST_EJECTION_S)
        if self._endpoints.get(endpoint.address) is endpoint:  # else its series is gone, and stays gone
            self._metrics.ejections.labels(self.model, endpoint.address).inc()

    async def set_addresses(self, addresses: Iterable[str]) -> None:
        """Have exactly these replicas; those that are no more finish their calls first.

        New ones are probed before old ones go, so that a move loses no call.
        """
        wanted = set(addresses)
        added = [self._add(address) for address in sorted(wanted - self._endpoints.keys())]
        if added:
            probed = asyncio.gather(*(endpoint.was_probed.wait() for endpoint in added))
            await within(FIRST_PROBE_LIMIT_S, probed)
        for address in sorted(self._endpoints.keys() - wanted):
            self._drain(self._endpoints.pop(address))
        self._on_change()

    def close(self) -> None:
        """Let every replica finish its calls, then close it; returns at once."""
        for address in tuple(self._endpoints):
            self._drain(self._endpoints.pop(address))

    async def close_now(self) -> None:
        """Close every connection."""
        for endpoint in self._endpoints.values():
            await endpoint.close()
        self._endpoints.clear()

    def _add(self, address: str) -> E:
        endpoint = self._open_endpoint(address)
        self._endpoints[address] = endpoint
        self._metrics.endpoint_ready.labels(self.model, address).set(0)

        def report(is_healthy: bool) -> None:
            self._report(endpoint, is_healthy)

        job = f"watch {self.model} at {address}"
        self._watches[endpoint] = self._background.spawn(job, lambda: endpoint.watch(report))
        return endpoint

    def _report(self, endpoint: E, is_healthy: bool) -> None:
        has_changed = endpoint.is_healthy != is_healthy
        endpoint.is_healthy = is_healthy
        endpoint.was_probed.set()
        if not has_changed or self._endpoints.get(endpoint.address) is not endpoint:
            return
        endpoint.description = None
        event = "replica is ready" if is_healthy else "replica is not ready"
        log.info(event, model=self.model, endpoint=endpoint.address)
        self._metrics.endpoint_ready.labels(self.model, endpoint.address).set(is_healthy)
        self._on_change()

    def _drain(self, endpoint: E) -> None:
        self._metrics.forget_endpoint(self.model, endpoint.address)
        log.info("replica removed", model=self.model, endpoint=endpoint.address)
        self._background.spawn(f"drain {endpoint.address}", lambda: self._close_when_idle(endpoint))

    async def _close_when_idle(self, endpoint: E) -> None:
        self._watches.pop(endpoint).cancel()
        try:
            await within(DRAIN_LIMIT_S, endpoint.idle())
        finally:
            await endpoint.close()


def grpc_pool(
    model: str,
    max_message_bytes: int,
    background: Background,
    metrics: GatewayMetrics,
    on_change: Callable[[], None],
) -> EndpointPool[GrpcEndpoint]:
    """A pool of workers."""

    def open_endpoint(address: str) -> GrpcEndpoint:
        return GrpcEndpoint(model, address, max_message_bytes)

    return EndpointPool(model, open_endpoint, background, metrics, on_change)


def http_pool(
    model: str, background: Background, metrics: GatewayMetrics, on_change: Callable[[], None]
) -> EndpointPool[HttpEndpoint]:
    """A pool of HTTP services."""

    def open_endpoint(address: str) -> HttpEndpoint:
        return HttpEndpoint(model, address)

    return EndpointPool(model, open_endpoint, background, metrics, on_change)


AnyPool = EndpointPool[GrpcEndpoint] | EndpointPool[HttpEndpoint]
