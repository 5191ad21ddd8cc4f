"""Replicas that are mute, flap, are cut off, or refuse everything."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference_mesh.client import MeshClient
from inference_mesh.errors import MeshError
from tests.e2e.faults.conftest import Paced, Scale, entry
from tests.support.leftovers import Leftovers, calls_started
from tests.support.load import Outcome, at_concurrency, at_rate, failures, one_call
from tests.support.processes import MeshProcess, http_text_of, metric_sum, wait_until

pytestmark = pytest.mark.faults

SHORT: dict[str, Any] = {"prompt": "a", "max_tokens": 4, "temperature": 0}
SAMPLED: dict[str, Any] = {"prompt": "a", "max_tokens": 20}


async def _streamed(client: MeshClient, payload: dict[str, Any], timeout_s: float = 30) -> str:
    """The whole text of a stream."""
    return "".join(
        [piece.output.generate.text async for piece in client.stream("chat", payload, timeout_s=timeout_s)]
    )


def _of_gateway(gateway: MeshProcess, name: str, **labels: str) -> float:
    return metric_sum(http_text_of(f"{gateway.url}/metrics"), name, **labels)


async def test_f1_kill_9_before_the_first_token_fails_no_call_and_keeps_the_retry_budget(
    paced: Paced, tmp_path: Path
) -> None:
    workers = paced.workers(3, slots=32, token_gap_s=0.3)
    gateway = paced.gateway(tmp_path, [entry(workers)])
    leftovers = Leftovers(gateway)
    async with MeshClient(gateway.grpc_target) as client:
        await client.infer("chat", SHORT)
        calls = [asyncio.ensure_future(_streamed(client, SHORT)) for _ in range(50)]
        await asyncio.sleep(0.15)
        workers[0].signal(signal.SIGKILL)
        texts = await asyncio.gather(*calls)
    assert set(texts) == {"0 1 2 3 "}
    assert 0 < _of_gateway(gateway, "mesh_gateway_retries_total") <= 50
    await asyncio.to_thread(leftovers.wait_until_none, workers[1:])


async def test_f3_a_stopped_replica_is_noticed_within_5_s_its_calls_move_and_it_comes_back_slowly(
    paced: Paced, tmp_path: Path
) -> None:
    workers = paced.workers(2, slots=8, service_s=0.02, token_gap_s=0.05)
    gateway = paced.gateway(tmp_path, [entry(workers, queue={"in_flight_per_replica": 8})])
    leftovers, long = Leftovers(gateway), SHORT | {"max_tokens": 40}
    hung, steady = workers
    async with MeshClient(gateway.grpc_target) as client:
        await asyncio.to_thread(_wait_until_ready, gateway, 2, 5.0)
        running = [asyncio.ensure_future(_streamed(client, long)) for _ in range(24)]  # a third waits
        await asyncio.to_thread(wait_until, lambda: calls_started(hung) >= 4, "it works")
        hung.signal(signal.SIGSTOP)
        await asyncio.to_thread(_wait_until_ready, gateway, 1, 5.0)
        texts = await asyncio.gather(*running)  # fails if one is not over within its 30 s
        hung.signal(signal.SIGCONT)
        await asyncio.to_thread(_wait_until_ready, gateway, 2, 5.0)
        before = calls_started(hung), calls_started(steady)
        outcomes = await at_concurrency(lambda: client.infer("chat", SHORT), clients=8, seconds=1.5)
        got = calls_started(hung) - before[0], calls_started(steady) - before[1]
        while calls_started(hung) - before[0] < 50:
            outcomes += await at_concurrency(lambda: client.infer("chat", SHORT), clients=8, seconds=0.5)
    assert set(texts) == {"".join(f"{number} " for number in range(40))}
    assert failures(outcomes) == []
    assert got[0] < got[1] / 2
    await asyncio.to_thread(leftovers.wait_until_none, workers)


def _wait_until_ready(gateway: MeshProcess, count: int, limit_s: float) -> None:
    wait_until(
        lambda: _of_gateway(gateway, "mesh_gateway_endpoint_ready") == count, f"{count} are ready", limit_s
    )


async def test_f4_a_replica_that_never_sends_a_first_token_is_left_and_ejected(
    paced: Paced, tmp_path: Path
) -> None:
    mute, good = paced.worker(mute=True), paced.worker(slots=32)
    gateway = paced.gateway(tmp_path, [entry([mute, good], timeouts={"first_token_s": 0.5})])
    leftovers = Leftovers(gateway)
    prompts = [SHORT | {"prompt": f"{number}"} for number in range(8)]  # each replica is the first of some

    async def ask_all(client: MeshClient) -> list[Outcome]:
        return await asyncio.gather(*(one_call(partial(_streamed, client, one)) for one in prompts))

    started = time.monotonic()
    async with MeshClient(gateway.grpc_target) as client:
        while time.monotonic() - started < 10:
            outcomes = await ask_all(client)
            assert failures(outcomes) == []
            if _of_gateway(gateway, "mesh_gateway_ejections_total", endpoint=mute.grpc_target) > 0:
                break
        ejected_s = time.monotonic() - started
        after = await ask_all(client)
    assert ejected_s < 10
    assert max(one.seconds for one in after) < 0.5
    await asyncio.to_thread(leftovers.wait_until_none, [mute, good])


async def test_f6_a_flapping_replica_costs_no_call_and_one_ejection_a_flap(
    paced: Paced, tmp_path: Path, scale: Scale
) -> None:
    workers = paced.workers(3, slots=8, service_s=0.02)
    gateway = paced.gateway(tmp_path, [entry(workers)])
    leftovers, flaps = Leftovers(gateway), int(scale.of(2, 10))
    port = workers[0].grpc

    async def flap() -> None:
        for _ in range(flaps):
            workers[0].signal(signal.SIGKILL)
            await asyncio.sleep(scale.of(1.0, 3.0))
            workers[0] = await asyncio.to_thread(paced.worker, slots=8, service_s=0.02, port=port)
            await asyncio.sleep(scale.of(1.0, 3.0))

    async with MeshClient(gateway.grpc_target) as client:
        flapping = asyncio.ensure_future(flap())
        outcomes: list[Outcome] = []
        while not flapping.done():
            outcomes += await at_rate(lambda: client.infer("chat", SHORT), per_s=50, seconds=1)
        await flapping
    assert len(failures(outcomes)) <= len(outcomes) / 1000, failures(outcomes)
    assert _of_gateway(gateway, "mesh_gateway_retries_total") <= 0.2 * len(outcomes)
    ejections = _of_gateway(gateway, "mesh_gateway_ejections_total", endpoint=f"127.0.0.1:{port}")
    assert ejections <= flaps
    await asyncio.to_thread(leftovers.wait_until_none, workers)


async def test_f7_without_a_replica_a_call_is_refused_at_once_and_served_again_soon(
    paced: Paced, tmp_path: Path
) -> None:
    worker = paced.worker()
    gateway = paced.gateway(tmp_path, [entry([worker])])
    bridge = paced.group.bridge(gateway)
    bridge.wait_until_ready()
    async with MeshClient(gateway.grpc_target) as client:
        await client.infer("chat", SHORT)
        worker.signal(signal.SIGKILL)
        await asyncio.to_thread(
            wait_until, lambda: _of_gateway(gateway, "mesh_gateway_endpoint_ready") == 0, "it is gone", 5.0
        )
        refused = [await one_call(lambda: client.infer("chat", SHORT, timeout_s=5)) for _ in range(5)]
        assert {one.error.reason for one in refused if one.error} == {"UNAVAILABLE"}
        assert sorted(one.seconds for one in refused)[2] < 0.05
        assert all(one.error and one.error.retry_after_s for one in refused)
        over_rest = httpx.post(f"{bridge.url}/api/infer", json={"model": "chat", "payload": SHORT})
        assert over_rest.status_code == 503
        assert int(over_rest.headers["retry-after"]) >= 1
        unknown = await one_call(lambda: client.infer("nobody", {"prompt": "a"}))
        assert unknown.error is not None
        assert unknown.error.reason == "MODEL_NOT_FOUND"
        await asyncio.to_thread(paced.worker, port=worker.grpc)
        returned = time.monotonic()
        while (await one_call(lambda: client.infer("chat", SHORT))).error is not None:
            await asyncio.sleep(0.05)
        assert time.monotonic() - returned < 2.0


async def test_f18_clients_that_retry_a_failing_backend_cause_at_most_a_fifth_more_attempts(
    paced: Paced, tmp_path: Path, scale: Scale
) -> None:
    workers = [
        paced.group.start("tests.fakes.fake_worker", "--name", "chat", "--label", name, name=name)
        for name in ("one", "two")
    ]
    for worker in workers:
        worker.wait_for_ports()
    gateway = paced.gateway(tmp_path, [entry(workers)])
    leftovers = Leftovers(gateway)
    failing = {"prompt": "status=UNAVAILABLE", "max_tokens": 1}

    async with MeshClient(gateway.grpc_target) as client:

        async def with_a_retry() -> None:
            for attempt in range(2):
                try:
                    await client.infer("chat", failing)
                except MeshError:
                    if attempt:
                        raise

        await at_rate(with_a_retry, per_s=60, seconds=scale.of(3, 30))
    requests = _of_gateway(gateway, "mesh_gateway_requests_total", method="Infer")
    retries = _of_gateway(gateway, "mesh_gateway_retries_total")
    assert requests > 100
    assert retries <= 0.2 * requests + 3
    await asyncio.to_thread(leftovers.wait_until_none, [])


@pytest.fixture
def far_host() -> Iterator[FarHost]:
    """A host of its own behind a virtual cable, in a network namespace."""
    host = FarHost()
    try:
        yield host
    finally:
        host.remove()


class FarHost:
    """A network namespace whose packets can be made to vanish."""

    NEAR, FAR = "10.231.77.1", "10.231.77.2"

    def __init__(self) -> None:
        self.name = f"mesh{os.getpid()}"
        cable = f"v{os.getpid() % 100000}"
        _ip("netns", "add", self.name)
        _ip("link", "add", cable, "type", "veth", "peer", "name", f"{cable}p", "netns", self.name)
        _ip("addr", "add", f"{self.NEAR}/30", "dev", cable)
        _ip("link", "set", cable, "up")
        self._inside("addr", "add", f"{self.FAR}/30", "dev", f"{cable}p")
        self._inside("link", "set", f"{cable}p", "up")
        self._inside("link", "set", "lo", "up")

    def cut(self) -> None:
        """Let every packet of the host vanish, without a word to the other side."""
        self._inside("route", "add", "blackhole", f"{self.NEAR}/32")

    def mend(self) -> None:
        """Let packets pass again."""
        self._inside("route", "del", "blackhole", f"{self.NEAR}/32")

    def remove(self) -> None:
        """Take the host away."""
        _ip("netns", "del", self.name)

    def _inside(self, *arguments: str) -> None:
        _ip("-n", self.name, *arguments)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


async def test_f5_a_replica_whose_packets_vanish_is_noticed_within_5_s_and_its_calls_move(
    paced: Paced, tmp_path: Path, far_host: FarHost
) -> None:
    near = paced.worker(slots=32, token_gap_s=0.1)
    far = paced.far_worker(far_host.name, far_host.FAR, slots=32, token_gap_s=0.1)
    target = f"{far_host.FAR}:{far.grpc}"
    endpoints = {"name": "chat", "task": "generate", "endpoints": [near.grpc_target, target]}
    gateway = paced.gateway(tmp_path, [endpoints])
    long = {"prompt": "a", "max_tokens": 40, "temperature": 0}
    async with MeshClient(gateway.grpc_target) as client:
        await asyncio.to_thread(
            wait_until, lambda: _of_gateway(gateway, "mesh_gateway_endpoint_ready") == 2, "both are ready"
        )
        running = [asyncio.ensure_future(one_call(lambda: _streamed(client, long))) for _ in range(10)]
        await asyncio.sleep(1.0)
        far_host.cut()
        cut_at = time.monotonic()
        await asyncio.to_thread(
            wait_until, lambda: _of_gateway(gateway, "mesh_gateway_endpoint_ready") == 1, "it is out", 5.0
        )
        outcomes = await asyncio.gather(*running)
        after = await asyncio.gather(*(one_call(lambda: _streamed(client, SHORT, 5)) for _ in range(8)))
        far_host.mend()
        await asyncio.to_thread(
            wait_until, lambda: _of_gateway(gateway, "mesh_gateway_endpoint_ready") == 2, "it is back", 5.0
        )
    far.signal(signal.SIGKILL)  # it still holds streams whose end it was never told
    assert failures(outcomes) == []
    assert max(one.ended_s for one in outcomes) - cut_at < 20
    assert failures(after) == []
