"""Which calls a canary is told of when they end."""

from __future__ import annotations

from typing import Any, cast

import grpc
import pytest
from prometheus_client import CollectorRegistry

from gateway.call import Call
from gateway.canary.canaries import Canaries, local_canaries
from gateway.canary.metrics import CanaryMetrics
from gateway.front.settlement import Settlement
from gateway.model_statistics import ModelStatistics
from gateway.policy.facts import Admit, Caller
from gateway.policy.routing.samples import SampleStats
from gateway.usage.metrics import UsageMetrics
from inference_mesh.config.models_file import ModelEntry

pytestmark = pytest.mark.asyncio

LONGEST_S = 10.0
LATE = grpc.StatusCode.DEADLINE_EXCEEDED


async def seen_of(
    code: grpc.StatusCode, duration_s: float, *, own_s: float | None = None, method: str = "Infer"
) -> SampleStats:
    """What the canary knows after one call of its version. own_s: the time that its caller gave it."""
    registry = CollectorRegistry()
    entry = ModelEntry.model_validate(
        {
            "name": "chat",
            "timeout_s": LONGEST_S,
            "versions": [
                {"version": "1", "weight": 1, "endpoints": ["127.0.0.1:1"]},
                {"version": "2", "endpoints": ["127.0.0.1:2"]},
            ],
            "canary": {"version": "2", "steps": [{"weight": 50, "for_s": 60}]},
        }
    )
    canaries: Canaries = local_canaries(CanaryMetrics(registry))
    canaries.replace([entry])
    await canaries.tick()
    own_deadline = None if own_s is None else 100.0 + own_s
    call = Call(method, cast("Any", None), (), 100.0, own_deadline, own_deadline=own_deadline)
    call.admission = Admit(Caller(), entry, "2")
    call.endpoint, call.first_token_at_s = "127.0.0.1:2", 100.5
    call.limit_to(LONGEST_S)
    Settlement(canaries, UsageMetrics(registry, 10), None, ModelStatistics()).tell(call, code, duration_s)
    (status,) = await canaries.status()
    return status.samples.canary


@pytest.mark.parametrize("duration_s", [2.0, 1.91])
async def test_a_call_whose_caller_gave_it_little_time_says_nothing_of_the_version(duration_s: float) -> None:
    assert (await seen_of(LATE, duration_s, own_s=2.0)).requests == 0


@pytest.mark.parametrize(
    ("duration_s", "own_s"),
    [(10.0, None), (10.0, 60.0), (9.95, 9.95), (0.5, 2.0)],
    ids=["the model's time", "a later deadline", "nearly the model's time", "the worker gave up early"],
)
async def test_a_call_that_had_the_models_time_or_was_given_up_early_is_a_fault(
    duration_s: float, own_s: float | None
) -> None:
    seen = await seen_of(LATE, duration_s, own_s=own_s)
    assert (seen.requests, seen.errors) == (1, 1)


async def test_other_ends_count_whatever_time_the_caller_gave() -> None:
    good = await seen_of(grpc.StatusCode.OK, 1.0, own_s=2.0)
    failed = await seen_of(grpc.StatusCode.INTERNAL, 1.95, own_s=2.0)
    assert (good.requests, good.errors, good.durations.count) == (1, 0, 1)
    assert (failed.requests, failed.errors) == (1, 1)


async def test_the_life_of_a_stream_of_requests_is_no_latency() -> None:
    seen = await seen_of(grpc.StatusCode.OK, 3600.0, method="ModelStreamInfer")
    assert (seen.requests, seen.durations.count, seen.first_tokens.count) == (1, 0, 0)
