"""Limits that several gateways share by Redis, while gateways and Redis die, hang and come back."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from inference_mesh.client import MeshClient
from inference_mesh.errors import MeshError
from tests.e2e.faults.conftest import Paced, entry, write_keys, write_yaml
from tests.support.load import one_call, percentile
from tests.support.processes import MeshProcess, http_text_of, metric_sum, wait_until
from tests.support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.faults

GATEWAYS = 3
BUDGET = 6000
ANSWER_TOKENS = 19
USED = 1 + ANSWER_TOKENS
"""Tokens that the paced worker counts for one request."""
RESERVED = 1 + 8 + ANSWER_TOKENS
LARGEST_LEASE = BUDGET // (2 * GATEWAYS) + RESERVED
SILENCE_S = 2.5
"""After how long a gateway that says nothing is taken to be gone."""
BACK_LIMIT_S = 15.0
"""How long Redis may gather what it lost: it waits 5 s for a gateway that does not come."""
ASK: dict[str, Any] = {"prompt": "a", "max_tokens": ANSWER_TOKENS, "temperature": 0}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


class Trio:
    """Three gateways that share a budget, and what they let through."""

    def __init__(self, paced: Paced, folder: Path, redis: RedisServer, limits: dict[str, Any]) -> None:
        worker = paced.worker(slots=64, service_s=0.005)
        self.keys = write_keys(folder / "keys.yaml", ["blue"])
        write_yaml(folder / "tenants.yaml", {"tenants": [{"name": "blue", "limits": limits}]})
        models = write_yaml(folder / "models.yaml", {"version": 1, "models": [entry([worker])]})
        files = ("--keys", str(folder / "keys.yaml"), "--tenants", str(folder / "tenants.yaml"))
        shared = ("--redis-url", redis.url, "--replicas", str(GATEWAYS))
        self.gateways = [paced.group.gateway(models, *files, *shared) for _ in range(GATEWAYS)]
        for gateway in self.gateways:
            gateway.wait_until_ready()
        self.clients = [
            MeshClient(gateway.grpc_target, api_key=self.keys["blue"]) for gateway in self.gateways
        ]
        self.used = 0
        self.failed = 0

    async def spend(self, clients: Sequence[MeshClient], *, calls: int, at_once: int = 6) -> int:
        """Send so many calls over these clients; how many were let through."""
        left = iter(range(calls))
        through = 0

        async def send(client: MeshClient) -> None:
            nonlocal through
            for _ in left:
                try:
                    answer = await client.infer("chat", ASK, timeout_s=5)
                except MeshError:
                    self.failed += 1
                else:
                    through += 1
                    self.used += answer.usage.prompt_tokens + answer.usage.completion_tokens

        async with asyncio.TaskGroup() as group:
            for number in range(at_once):
                group.create_task(send(clients[number % len(clients)]))
        return through

    async def exhaust(self, clients: Sequence[MeshClient]) -> None:
        """Send until nothing was let through for a while, so that leases had time to come back."""
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < 3:
            if await self.spend(clients, calls=36):
                quiet_since = time.monotonic()
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        for client in self.clients:
            await client.close()


def _wait_until_heard(gateways: Sequence[MeshProcess]) -> None:
    """Until each gateway knows that a killed one is gone, and what it took."""
    time.sleep(SILENCE_S)
    for gateway in gateways:
        before = _renewals(gateway)
        wait_until(
            lambda one=gateway, least=before + 2: _renewals(one) >= least,
            "leases are renewed",
            5.0,
        )


def _wait_until_asked(gateways: Sequence[MeshProcess], state: int = 1) -> None:
    """Until each gateway asks Redis, or not."""
    for gateway in gateways:
        wait_until(lambda one=gateway: _ledger_is(one, state), "it knows how Redis is", BACK_LIMIT_S)


def _renewals(gateway: MeshProcess) -> float:
    return metric_sum(http_text_of(f"{gateway.url}/metrics"), "mesh_gateway_ledger_calls_total", result="ok")


def _ledger_is(gateway: MeshProcess, state: int) -> bool:
    return metric_sum(http_text_of(f"{gateway.url}/metrics"), "mesh_gateway_ledger_up") == state


async def test_f8_with_a_gateway_and_redis_killed_in_turn_the_budget_is_kept_to_the_last_lease(
    paced: Paced, tmp_path: Path, redis: RedisServer
) -> None:
    limits = {"tokens": {"amount": BUDGET, "per": "day"}, "when_redis_is_gone": "refuse"}
    trio = Trio(paced, tmp_path, redis, limits)
    assert await trio.spend(trio.clients, calls=60) == 60
    trio.gateways[0].signal(signal.SIGKILL)
    alive = trio.clients[1:]
    assert await trio.spend(alive, calls=40) == 40
    await asyncio.to_thread(_wait_until_heard, trio.gateways[1:])
    redis.kill()
    await trio.spend(alive, calls=60)
    redis.start()
    await asyncio.to_thread(_wait_until_asked, trio.gateways[1:])
    await trio.exhaust(alive)
    await trio.close()
    assert trio.used <= BUDGET
    assert trio.used >= BUDGET - LARGEST_LEASE - RESERVED


async def test_f8_with_a_gateway_and_redis_killed_at_once_nothing_of_the_budget_is_granted_twice(
    paced: Paced, tmp_path: Path, redis: RedisServer
) -> None:
    limits = {"tokens": {"amount": BUDGET, "per": "day"}, "when_redis_is_gone": "refuse"}
    trio = Trio(paced, tmp_path, redis, limits)
    assert await trio.spend(trio.clients, calls=60) == 60
    assert await trio.spend(trio.clients[:1], calls=120) == 120
    trio.gateways[0].signal(signal.SIGKILL)
    redis.kill()
    redis.start()
    alive = trio.gateways[1:]
    for state in (0, 1):
        await asyncio.to_thread(_wait_until_asked, alive, state)
    await trio.exhaust(trio.clients[1:])
    await trio.close()
    assert trio.used <= BUDGET


async def test_f8_while_redis_hangs_each_gateway_goes_on_with_its_share_and_says_so(
    paced: Paced, tmp_path: Path, redis: RedisServer
) -> None:
    limits = {"tokens": {"amount": BUDGET, "per": "day"}, "when_redis_is_gone": "share"}
    trio = Trio(paced, tmp_path, redis, limits)
    client, gateway = trio.clients[0], trio.gateways[0]
    await trio.spend([client], calls=10)
    calm = [(await one_call(lambda: client.infer("chat", ASK))).seconds for _ in range(40)]
    redis.stall()
    hung = [await one_call(lambda: client.infer("chat", ASK)) for _ in range(40)]
    assert [one.error for one in hung if one.error is not None] == []
    assert percentile([one.seconds for one in hung], 99) <= percentile(calm, 99) + 0.010
    await asyncio.to_thread(wait_until, lambda: _ledger_is(gateway, 0), "the metric says so", 5.0)
    refused = None
    while refused is None:
        refused = (await one_call(lambda: client.infer("chat", ASK))).error
        trio.used += USED if refused is None else 0
    assert trio.used + USED * (len(calm) + len(hung)) <= BUDGET / GATEWAYS + LARGEST_LEASE
    redis.resume()
    returned = time.monotonic()
    await asyncio.to_thread(wait_until, lambda: _ledger_is(gateway, 1), "it asks Redis again", 5.0)
    while (await one_call(lambda: client.infer("chat", ASK))).error is not None:
        await asyncio.sleep(0.05)
    assert time.monotonic() - returned < 5.0
    await trio.close()
