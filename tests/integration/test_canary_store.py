"""Canaries of several gateways that meet in a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.canary.canaries import Canaries
from gateway.canary.canary_store import CanaryKey, CanaryReport
from gateway.canary.metrics import CanaryMetrics
from gateway.canary.redis_canary_store import RedisCanaryStore
from gateway.policy.routing.canary import CanaryPhase, Progress
from gateway.policy.routing.samples import CallResult, StepSamples
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.errors import UnavailableError
from tests.support.redis_server import RedisServer, redis_server

KEY = CanaryKey("chat", "spec")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


def entry(*, min_samples: int = 20, for_s: float = 3600) -> ModelEntry:
    canary = {
        "version": "2",
        "steps": [{"weight": 5, "for_s": for_s}, {"weight": 50, "for_s": 3600}],
        "guards": {"min_samples": min_samples},
    }
    versions = [
        {"version": "1", "weight": 1, "endpoints": ["127.0.0.1:1"]},
        {"version": "2", "endpoints": ["127.0.0.1:2"]},
    ]
    return ModelEntry.model_validate({"name": "chat", "versions": versions, "canary": canary})


class Gateway:
    """The canaries of one gateway, running."""

    def __init__(self, server: RedisServer, name: str) -> None:
        self.store = RedisCanaryStore(server.url, gateway_id=name)
        self.canaries = Canaries(self.store, CanaryMetrics(CollectorRegistry()))

    def begin(self, model: ModelEntry) -> None:
        self.canaries.replace([model])

    @property
    def share(self) -> float:
        choice = self.canaries.share_of(entry())
        return choice.weight if choice is not None else -1.0

    def call(self, version: str, code: str = "OK", count: int = 1) -> None:
        for _ in range(count):
            self.canaries.observe("chat", version, code, 0.1, None)


@pytest_asyncio.fixture
async def gateways(redis: RedisServer) -> AsyncIterator[list[Gateway]]:
    found = [Gateway(redis, f"gateway-{number}") for number in range(3)]
    running = [asyncio.create_task(one.canaries.run()) for one in found]
    yield found
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def until(is_so: Callable[[], bool], limit_s: float = 5.0) -> float:
    """Wait until something holds; the seconds that it took."""
    started_s = time.monotonic()
    async with asyncio.timeout(limit_s):
        while not is_so():
            await asyncio.sleep(0.01)
    return time.monotonic() - started_s


def all_have(gateways: list[Gateway], share: float) -> Callable[[], bool]:
    return lambda: all(one.share == share for one in gateways)


async def test_faults_that_no_gateway_alone_would_judge_roll_back_on_all_within_a_second(
    gateways: list[Gateway],
) -> None:
    for one in gateways:
        one.begin(entry(min_samples=20))
    await until(all_have(gateways, 5.0))
    for one in gateways:
        one.call("1", count=100)
        one.call("2", count=5)
        one.call("2", "INTERNAL", count=2)
    await until(lambda: any(one.share == 0.0 for one in gateways))
    assert await until(all_have(gateways, 0.0)) < 1.0


async def test_a_canary_advances_by_the_sum_of_all_gateways_calls(gateways: list[Gateway]) -> None:
    for one in gateways:
        one.begin(entry(min_samples=20, for_s=1))
    await until(all_have(gateways, 5.0))
    for one in gateways:
        one.call("2", count=7)
    await until(all_have(gateways, 50.0))
    (status,) = await gateways[0].canaries.status()
    assert (status.step, status.samples.canary.requests, status.is_shared) == (1, 0, True)


async def test_an_operators_word_reaches_every_gateway_within_a_second(gateways: list[Gateway]) -> None:
    for one in gateways:
        one.begin(entry())
    await until(all_have(gateways, 5.0))
    status = await gateways[1].canaries.promote("chat")
    assert status.phase is CanaryPhase.PROMOTED
    assert await until(all_have(gateways, 100.0)) < 1.0
    await gateways[2].canaries.abort("chat")
    assert await until(all_have(gateways, 0.0)) < 1.0


async def test_the_status_has_the_calls_of_every_gateway(gateways: list[Gateway]) -> None:
    for one in gateways:
        one.begin(entry(min_samples=1000))
    await until(all_have(gateways, 5.0))
    for number, one in enumerate(gateways, start=1):
        one.call("2", count=number)
    found: list[int] = []
    async with asyncio.timeout(5):
        while found[-1:] != [6]:
            (status,) = await gateways[0].canaries.status()
            found.append(status.samples.canary.requests)
    assert max(found) == 6


async def test_a_gateway_that_starts_later_follows_and_does_not_begin_anew(
    gateways: list[Gateway], redis: RedisServer
) -> None:
    gateways[0].begin(entry())
    await until(all_have(gateways[:1], 5.0))
    await gateways[0].canaries.abort("chat")
    late = Gateway(redis, "gateway-0")
    late.begin(entry())
    await late.canaries.tick()
    assert late.share == 0.0
    assert gateways[0].share == 0.0
    await late.store.close()


async def test_while_redis_is_gone_every_canary_stays_where_it_is_and_goes_on_after(
    gateways: list[Gateway], redis: RedisServer
) -> None:
    for one in gateways:
        one.begin(entry(for_s=0.1))
    await until(all_have(gateways, 5.0))
    redis.kill()
    for one in gateways:
        one.call("2", count=100)
        await one.canaries.tick()
    assert all_have(gateways, 5.0)()
    with pytest.raises(UnavailableError):
        await gateways[0].canaries.promote("chat")
    (status,) = await gateways[0].canaries.status()
    assert status.samples.canary.requests == 100
    redis.start()
    await until(all_have(gateways, 50.0))


async def test_a_redis_that_comes_back_empty_learns_how_far_the_canary_was(
    gateways: list[Gateway], redis: RedisServer
) -> None:
    for one in gateways[:2]:
        one.begin(entry())
    await until(all_have(gateways[:2], 5.0))
    await gateways[0].canaries.abort("chat")
    await until(all_have(gateways[:2], 0.0))
    redis.kill()
    gateways[2].begin(entry())
    redis.start()
    await until(lambda: gateways[2].share >= 0)
    await until(all_have(gateways, 0.0))


async def test_a_gateway_that_knows_nothing_gives_the_canary_nothing(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        server.kill()
        alone = Gateway(server, "gateway-0")
        alone.begin(entry())
        await alone.canaries.tick()
        assert alone.share == 0.0
        await alone.store.close()


async def test_a_hung_redis_holds_up_a_round_for_a_second_and_no_call(
    gateways: list[Gateway], redis: RedisServer
) -> None:
    gateways[0].begin(entry())
    await until(all_have(gateways[:1], 5.0))
    redis.stall()
    try:
        started_s = time.monotonic()
        tick = asyncio.create_task(gateways[0].canaries.tick())
        await asyncio.sleep(0)
        for _ in range(1000):
            gateways[0].call("2")
            assert gateways[0].share == 5.0
        assert time.monotonic() - started_s < 0.5
        await tick
        assert time.monotonic() - started_s < 3.0
    finally:
        redis.resume()
    await gateways[0].canaries.tick()
    assert gateways[0].share == 5.0


async def test_one_gateway_judges_at_a_time_and_another_once_it_is_silent(redis: RedisServer) -> None:
    stores = [RedisCanaryStore(redis.url, gateway_id=name) for name in ("a", "b")]
    report = CanaryReport(None, 0.0, StepSamples())
    first = [(await store.report(KEY, report)).is_judge for store in stores]
    again = [(await store.report(KEY, report)).is_judge for store in stores]
    assert first == again == [True, False]
    async with asyncio.timeout(5):
        while not (await stores[1].report(KEY, report)).is_judge:
            await asyncio.sleep(0.05)
    for store in stores:
        await store.close()


async def test_a_repeated_report_counts_once_and_a_late_one_of_an_old_step_not_at_all(
    redis: RedisServer,
) -> None:
    store = RedisCanaryStore(redis.url, gateway_id="a")
    samples = StepSamples()
    samples.canary.note(CallResult.GOOD, 1.0, None)
    report = CanaryReport(Progress(), 0.0, samples)
    for _ in range(3):
        await store.report(KEY, report)
    assert [one.canary.requests for one in await store.samples(KEY, 0)] == [1]
    await store.move(KEY, 1, Progress(step=1, revision=2, reason="good"))
    stored = await store.report(KEY, report)
    assert (stored.progress.step, await store.samples(KEY, 1), await store.samples(KEY, 0)) == (1, (), ())
    await store.close()


async def test_two_verdicts_on_one_state_move_it_once(redis: RedisServer) -> None:
    store = RedisCanaryStore(redis.url, gateway_id="a")
    report = CanaryReport(None, 0.0, StepSamples())
    await store.report(KEY, report)
    await store.move(KEY, 1, Progress(step=1, revision=2))
    await store.move(KEY, 1, Progress(CanaryPhase.ROLLED_BACK, 0, 2))
    stored = await store.report(KEY, report)
    assert stored.progress == Progress(step=1, revision=2)
    await store.close()


async def test_what_a_stranger_wrote_into_a_canary_is_left_out(redis: RedisServer) -> None:
    store = RedisCanaryStore(redis.url, gateway_id="a")
    await store.report(KEY, CanaryReport(None, 0.0, StepSamples()))
    client = Redis.from_url(redis.url, decode_responses=True)
    for number, text in enumerate(("", "{}", "[0,[[1,2,[],[]],1]]", "[1]")):
        await client.hset("{mesh-canary:chat:spec}", f"samples:{number}", text)
    assert await store.samples(KEY, 0) == ()
    await client.aclose()
    await store.close()


async def test_a_canary_that_no_registry_has_leaves_nothing_in_redis(
    gateways: list[Gateway], redis: RedisServer
) -> None:
    gateways[0].begin(entry())
    await until(all_have(gateways[:1], 5.0))
    client = Redis.from_url(redis.url)
    gateways[0].canaries.replace([])
    async with asyncio.timeout(5):
        while await client.keys("*"):
            await asyncio.sleep(0.02)
    await client.aclose()


async def test_a_gateway_that_ends_in_the_middle_of_a_round_leaves_no_connection(
    redis: RedisServer,
) -> None:
    one = Gateway(redis, "gateway-0")
    one.begin(entry())
    running = asyncio.create_task(one.canaries.run())
    await asyncio.sleep(0)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
