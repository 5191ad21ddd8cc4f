"""The replicas of one version of a model: which there are, and which one a call gets.

Owns their coming and going, and acts on what the policy decides of them. Does not own a
replica's connection (`endpoints`) or the look-up of names (`discovery`).
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Collection, Iterable
from typing import Generic, TypeVar

from gateway.policy.routing.affinity import by_prefix
from gateway.policy.routing.outliers import Fault, is_panic, may_eject
from gateway.policy.routing.pick import pick
from gateway.policy.routing.replica import DEFAULT_SLOTS
from gateway.upstream.endpoint_watch import Health
from gateway.upstream.endpoints import Endpoint, GrpcEndpoint, HttpEndpoint
from gateway.upstream.metrics import UpstreamMetrics
from gateway.upstream.worker_connections import WorkerConnections
from inference_mesh import telemetry
from inference_mesh.background import Background, within
from inference_mesh.load_report import LoadReport
from inference_mesh.v1 import inference_pb2

log = telemetry.get_logger(__name__)

SHORTEST_LEAVE_S, LONGEST_LEAVE_S = 0.5, 1.0
FIRST_PROBE_LIMIT_S = 1.0
DRAIN_LIMIT_S = 300.0

E = TypeVar("E", bound=Endpoint)


class EndpointPool(Generic[E]):
    """Owns the replicas of one version of a model."""

    def __init__(
        self,
        model: str,
        open_endpoint: Callable[[str], E],
        background: Background,
        metrics: UpstreamMetrics,
        on_change: Callable[[], None],
    ) -> None:
        """open_endpoint: makes the replica of an address. on_change: called when capacity changed."""
        self.model = model
        self.description: inference_pb2.Model | None = None
        self.in_flight_per_replica: int | None = None
        self.longest_call_s = math.inf
        self._open_endpoint = open_endpoint
        self._background = background
        self._metrics = metrics
        self._on_change = on_change
        self._endpoints: dict[str, E] = {}
        self._ready: tuple[E, ...] = ()
        self._all_in_from_s = -math.inf
        self._watches: dict[E, asyncio.Task[None]] = {}

    @property
    def endpoints(self) -> tuple[E, ...]:
        """Every replica, healthy or not."""
        return tuple(self._endpoints.values())

    @property
    def ready(self) -> tuple[E, ...]:
        """The healthy replicas."""
        return self._ready

    @property
    def trouble(self) -> str:
        """Why a replica cannot be reached, of the first one of which it is known; empty = of none."""
        return next((f"{one.address}: {one.trouble}" for one in self.endpoints if one.trouble), "")

    @property
    def capacity(self) -> int:
        """Calls that the ready replicas work on at once; 0 = none is ready."""
        if self.in_flight_per_replica is not None:
            return self.in_flight_per_replica * len(self._ready)
        return sum(endpoint.slots or DEFAULT_SLOTS for endpoint in self._ready)

    def pick(
        self, tried: Collection[E], now_s: float, rng: random.Random, prefix: int | None = None
    ) -> E | None:
        """A healthy replica: not tried yet and not left out if there is one, else any.

        prefix: `affinity.prefix_hash` of a prompt's beginning; None = its cache does not matter.
        """
        choices = self._ready
        if tried or now_s < self._all_in_from_s:
            choices = self._choices(tried, now_s)
        if prefix is None or len(choices) < 2:
            return pick(choices, now_s, rng)
        return self._of_prefix(choices, prefix, now_s) or pick(choices, now_s, rng)

    def has_other(self, tried: Collection[E]) -> bool:
        """Whether a healthy replica was not tried yet."""
        return any(endpoint not in tried for endpoint in self._ready)

    def note_success(self, endpoint: E) -> None:
        """A replica answered."""
        endpoint.conduct.succeed()

    def note_report(self, endpoint: E, report: LoadReport, now_s: float) -> None:
        """A replica said how busy it is."""
        slots = endpoint.slots
        endpoint.note_report(report, now_s)
        if endpoint.slots != slots and endpoint.is_healthy:
            self._on_change()

    def note_fault(
        self, endpoint: E, fault: Fault, started_s: float, now_s: float, rng: random.Random
    ) -> None:
        """An attempt failed. The replica is left out for a moment, or ejected for longer."""
        conduct = endpoint.conduct
        if not conduct.is_news(started_s):
            return
        was_out = conduct.is_out(now_s)
        is_due = conduct.fail(fault)
        ejected = sum(one.conduct.is_ejected(now_s) for one in self._endpoints.values())
        if is_due and not conduct.is_ejected(now_s) and may_eject(ejected, len(self._endpoints)):
            conduct.eject(now_s)
            log.warning("replica ejected", model=self.model, endpoint=endpoint.address, fault=fault.value)
        elif fault is not Fault.FAILED and not was_out:
            conduct.leave_out(now_s, rng.uniform(SHORTEST_LEAVE_S, LONGEST_LEAVE_S))
        self._all_in_from_s = max(self._all_in_from_s, conduct.out_until_s)
        has_left = conduct.is_out(now_s) and not was_out
        if has_left and self._has(endpoint):  # else its series is gone, and stays gone
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
        self._find_ready()
        self._on_change()

    def reopen(self) -> None:
        """Open new connections for new calls; the running ones end on the old."""
        for endpoint in self._endpoints.values():
            retire = endpoint.reopen()
            if retire is not None:
                self._watches[endpoint].cancel()
                self._watch(endpoint)
                self._background.spawn(f"retire a connection to {endpoint.address}", retire)

    def close(self) -> None:
        """Let every replica finish its calls, then close it; returns at once."""
        for address in tuple(self._endpoints):
            self._drain(self._endpoints.pop(address))
        self._find_ready()

    async def close_now(self) -> None:
        """Close every connection."""
        for endpoint in self._endpoints.values():
            await endpoint.close()
        self._endpoints.clear()
        self._find_ready()

    def _find_ready(self) -> None:
        self._ready = tuple(endpoint for endpoint in self._endpoints.values() if endpoint.is_healthy)

    def _choices(self, tried: Collection[E], now_s: float) -> tuple[E, ...]:
        """The healthy ones that are neither tried nor left out, or the next best."""
        ready = self._ready
        fresh = tuple(endpoint for endpoint in self._steady(now_s) if endpoint not in tried)
        calm = tuple(endpoint for endpoint in fresh if not endpoint.conduct.is_out(now_s))
        return calm or fresh or tuple(endpoint for endpoint in ready if endpoint not in tried) or ready

    def _steady(self, now_s: float) -> tuple[E, ...]:
        """The healthy ones that are not ejected; in a panic, every healthy one."""
        steady = tuple(endpoint for endpoint in self._ready if not endpoint.conduct.is_ejected(now_s))
        return self._ready if is_panic(len(steady), len(self._endpoints)) else steady

    def _of_prefix(self, choices: tuple[E, ...], prefix: int, now_s: float) -> E | None:
        """The replica whose cache has the prefix, or the next one if that is busy."""
        found = by_prefix(choices, prefix, now_s)
        if found is None:
            return None
        chosen, is_first = found
        self._metrics.prefix_picks.add((self.model, "first" if is_first else "next"))
        return chosen

    def _has(self, endpoint: E) -> bool:
        return self._endpoints.get(endpoint.address) is endpoint

    def _add(self, address: str) -> E:
        endpoint = self._open_endpoint(address)
        self._endpoints[address] = endpoint
        self._metrics.show_endpoint(self.model, address)
        self._watch(endpoint)
        return endpoint

    def _watch(self, endpoint: E) -> None:
        def report(health: Health) -> None:
            self._report(endpoint, health)

        job = f"watch {self.model} at {endpoint.address}"
        self._watches[endpoint] = self._background.spawn(job, lambda: endpoint.watch(report))

    def _report(self, endpoint: E, health: Health) -> None:
        if health is Health.STALLED:
            if not self._is_stalled_for_good(endpoint):
                return
        elif health is not Health.SILENT:
            endpoint.conduct.speak()
        is_healthy = health is Health.HEALTHY
        has_changed = endpoint.is_healthy != is_healthy
        endpoint.is_healthy = is_healthy
        self._find_ready()
        endpoint.was_probed.set()
        if health is Health.SILENT and self.has_other((endpoint,)):
            endpoint.drop_calls()
        if not has_changed or not self._has(endpoint):
            return
        if is_healthy:
            self._welcome(endpoint)
        event = "replica is ready" if is_healthy else "replica is not ready"
        log.info(event, model=self.model, endpoint=endpoint.address, health=health.value)
        self._metrics.endpoint_ready.set((self.model, endpoint.address), is_healthy)
        self._on_change()

    def _is_stalled_for_good(self, endpoint: E) -> bool:
        """Set a silent replica aside, which others may stand in for; whether it counts as gone.

        Its calls go on: it may be slow. But one that answered nothing, no call either, for as long
        as a call may take, has failed all that it had.
        """
        now_s, conduct = asyncio.get_running_loop().time(), endpoint.conduct
        was_out = conduct.is_out(now_s)
        stalled_s = conduct.stall(now_s)
        self._all_in_from_s = max(self._all_in_from_s, conduct.out_until_s)
        if stalled_s == 0:
            log.warning("replica set aside: silent at work", model=self.model, endpoint=endpoint.address)
            if not was_out and self._has(endpoint):
                self._metrics.ejections.labels(self.model, endpoint.address).inc()
        return stalled_s > self.longest_call_s

    def _welcome(self, endpoint: E) -> None:
        """A replica came back, maybe as another program: what it said before no longer holds."""
        endpoint.description = None
        endpoint.come_back(asyncio.get_running_loop().time())
        self._background.spawn(f"ask {endpoint.address}", lambda: self._ask(endpoint))

    async def _ask(self, endpoint: E) -> None:
        if not self._has(endpoint):
            return
        slots = endpoint.slots
        await endpoint.describe()
        if endpoint.slots != slots and endpoint.is_healthy:
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
    connections: WorkerConnections,
    background: Background,
    metrics: UpstreamMetrics,
    on_change: Callable[[], None],
    service: str = "",
) -> EndpointPool[GrpcEndpoint]:
    """A pool of workers. service: the name that their addresses are found by, if they are."""

    def open_endpoint(address: str) -> GrpcEndpoint:
        return GrpcEndpoint(model, address, connections, service)

    return EndpointPool(model, open_endpoint, background, metrics, on_change)


def http_pool(
    model: str, background: Background, metrics: UpstreamMetrics, on_change: Callable[[], None]
) -> EndpointPool[HttpEndpoint]:
    """A pool of HTTP services."""

    def open_endpoint(address: str) -> HttpEndpoint:
        return HttpEndpoint(model, address)

    return EndpointPool(model, open_endpoint, background, metrics, on_change)


AnyPool = EndpointPool[GrpcEndpoint] | EndpointPool[HttpEndpoint]
