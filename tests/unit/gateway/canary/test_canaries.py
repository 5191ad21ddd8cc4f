from __future__ import annotations

import asyncio
import contextlib

import pytest
from prometheus_client import CollectorRegistry

from gateway.canary.canaries import Canaries, local_canaries
from gateway.canary.live_canary import CanaryStatus
from gateway.canary.metrics import CanaryMetrics
from gateway.front.canary_answers import PHASES, canary_message
from gateway.policy.routing.canary import CanaryPhase
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.errors import ModelNotFoundError
from inference_mesh.v1 import admin_pb2

pytestmark = pytest.mark.asyncio


class Clock:
    """A clock that goes only when told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def entry(name: str = "chat", min_samples: int = 10, **changes: object) -> ModelEntry:
    canary = {
        "version": "2",
        "steps": [{"weight": 5, "for_s": 60}, {"weight": 50, "for_s": 60}],
        "guards": {"min_samples": min_samples},
    }
    versions = [
        {"version": "1", "weight": 1, "endpoints": ["127.0.0.1:1"]},
        {"version": "2", "endpoints": ["127.0.0.1:2"]},
    ]
    return ModelEntry.model_validate({"name": name, "versions": versions, "canary": canary, **changes})


class Gateway:
    """Canaries with a clock and a registry of metrics."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.registry = CollectorRegistry()
        self.canaries: Canaries = local_canaries(CanaryMetrics(self.registry), self.clock)

    async def begin(self, *entries: ModelEntry) -> None:
        self.canaries.replace(entries)
        await self.canaries.tick()

    def call(self, version: str, code: str = "OK", count: int = 1, duration_s: float = 0.1) -> None:
        for _ in range(count):
            self.canaries.observe("chat", version, code, duration_s, 0.01)

    async def pass_time(self, seconds: float) -> CanaryStatus:
        self.clock.now_s += seconds
        await self.canaries.tick()
        (status,) = await self.canaries.status()
        return status

    @property
    def share(self) -> float | None:
        choice = self.canaries.share_of(entry())
        return choice.weight if choice is not None else None

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"model": "chat", **labels})


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


async def test_a_canary_that_keeps_its_guards_goes_step_by_step_to_all_traffic(gateway: Gateway) -> None:
    await gateway.begin(entry())
    shares = [gateway.share]
    for _ in range(2):
        gateway.call("1", count=100)
        gateway.call("2", count=10)
        await gateway.pass_time(59)
        shares.append(gateway.share)
        await gateway.pass_time(1)
        shares.append(gateway.share)
    assert shares == [5.0, 5.0, 50.0, 50.0, 100.0]
    status = await gateway.pass_time(10_000)
    assert (status.phase, status.stable_version) == (CanaryPhase.PROMOTED, "1")


async def test_without_calls_a_canary_stays_where_it_is(gateway: Gateway) -> None:
    await gateway.begin(entry())
    assert (await gateway.pass_time(1e6)).step == 0


async def test_a_canary_that_fails_is_rolled_back_at_once_and_its_samples_stay_visible(
    gateway: Gateway,
) -> None:
    await gateway.begin(entry())
    gateway.call("1", count=100)
    gateway.call("2", count=8)
    gateway.call("2", "INTERNAL", count=2)
    status = await gateway.pass_time(0.1)
    assert (status.phase, gateway.share) == (CanaryPhase.ROLLED_BACK, 0.0)
    gateway.call("2", "INTERNAL", count=50)
    status = await gateway.pass_time(1e6)
    assert (status.phase, status.samples.canary.requests) == (CanaryPhase.ROLLED_BACK, 10)
    assert "error ratio 0.2" in status.reason


async def test_the_status_says_what_a_canary_that_runs_waits_for(gateway: Gateway) -> None:
    await gateway.begin(entry())
    gateway.call("2", count=4)
    assert (await gateway.pass_time(1)).reason == "4 of 10 calls"
    gateway.call("2", count=6)
    assert "49 s" in (await gateway.pass_time(10)).reason


async def test_what_callers_do_wrong_is_not_the_canarys_fault(gateway: Gateway) -> None:
    await gateway.begin(entry())
    gateway.call("2", count=10)
    for code in ("INVALID_ARGUMENT", "CANCELLED", "RESOURCE_EXHAUSTED"):
        gateway.call("2", code, count=50)
    assert (await gateway.pass_time(1)).phase is CanaryPhase.RUNNING


async def test_samples_of_one_step_do_not_count_in_the_next(gateway: Gateway) -> None:
    await gateway.begin(entry())
    gateway.call("2", count=10)
    status = await gateway.pass_time(60)
    assert (status.step, status.samples.canary.requests) == (1, 0)
    assert (await gateway.pass_time(1000)).step == 1


async def test_a_reload_keeps_the_progress_of_an_unchanged_canary_and_restarts_a_changed_one(
    gateway: Gateway,
) -> None:
    await gateway.begin(entry())
    await gateway.canaries.abort("chat")
    await gateway.begin(entry(aliases=["talk"]))
    assert gateway.share == 0.0
    await gateway.begin(entry(min_samples=11))
    assert gateway.share == 5.0
    await gateway.begin(entry())
    assert gateway.share == 5.0


async def test_a_model_that_goes_takes_its_canary_and_its_series_along(gateway: Gateway) -> None:
    await gateway.begin(entry())
    gateway.call("2")
    assert gateway.value("mesh_gateway_canary_weight") == 5.0
    await gateway.begin()
    gateway.call("2")
    assert gateway.share is None
    assert await gateway.canaries.status() == ()
    assert gateway.value("mesh_gateway_canary_weight") is None
    assert gateway.value("mesh_gateway_canary_requests_total", side="canary", result="good") is None


async def test_an_operator_ends_a_canary_either_way_and_again(gateway: Gateway) -> None:
    await gateway.begin(entry())
    for _ in range(2):
        assert (await gateway.canaries.promote("chat")).phase is CanaryPhase.PROMOTED
        assert gateway.share == 100.0
    assert (await gateway.canaries.abort("chat")).phase is CanaryPhase.ROLLED_BACK
    assert gateway.share == 0.0


async def test_a_model_without_a_canary_has_none_to_end(gateway: Gateway) -> None:
    await gateway.begin(entry())
    for model in ("none", ""):
        with pytest.raises(ModelNotFoundError):
            await gateway.canaries.promote(model)


async def test_metrics_tell_the_phase_and_both_sides(gateway: Gateway) -> None:
    await gateway.begin(entry())
    gateway.call("1", count=3)
    gateway.call("2", "UNAVAILABLE", count=2)
    requests = "mesh_gateway_canary_requests_total"
    assert gateway.value(requests, side="stable", result="good") == 3
    assert gateway.value(requests, side="canary", result="fault") == 2
    assert gateway.value("mesh_gateway_canary_phase", phase="running") == 1
    await gateway.canaries.promote("chat")
    assert gateway.value("mesh_gateway_canary_phase", phase="running") == 0
    assert gateway.value("mesh_gateway_canary_phase", phase="promoted") == 1


async def test_the_answer_to_operators_has_what_the_status_has(gateway: Gateway) -> None:
    await gateway.begin(entry())
    gateway.call("1", count=100, duration_s=0.1)
    gateway.call("2", "INTERNAL")
    message = canary_message(await gateway.pass_time(5))
    assert (message.model, message.version, message.stable_version) == ("chat", "2", "1")
    assert (message.phase, message.step, message.steps, message.weight) == (
        admin_pb2.CANARY_PHASE_RUNNING,
        0,
        2,
        5.0,
    )
    assert message.step_age_s == pytest.approx(5)
    assert (message.canary.errors, message.canary.p99_s) == (1, 0)
    assert message.stable.p99_s == pytest.approx(0.1, rel=0.03)
    assert not message.shared
    assert set(PHASES) == set(CanaryPhase)


async def test_a_new_registry_is_followed_without_waiting_for_the_next_round(gateway: Gateway) -> None:
    running = asyncio.create_task(gateway.canaries.run())
    gateway.canaries.replace([entry()])
    async with asyncio.timeout(5):
        while gateway.share != 5.0:
            await asyncio.sleep(0)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
