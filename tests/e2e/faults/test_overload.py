"""More work than the replicas can do: what is served, what is refused, and whose it is."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference_mesh.client import MeshClient
from inference_mesh.errors import DeadlineExceededError
from tests.e2e.faults.conftest import Paced, Scale, entry, write_keys, write_yaml
from tests.support.load import at_concurrency, at_rate, failures, goodput, one_call, percentile
from tests.support.processes import MeshProcess, http_text_of, metric_sum, wait_until

pytestmark = pytest.mark.faults

SHORT: dict[str, Any] = {"prompt": "a", "max_tokens": 4, "temperature": 0}
SLOTS, SERVICE_S = 4, 0.1
CAPACITY_PER_S = SLOTS / SERVICE_S


def _mesh_of_three_tenants(paced: Paced, folder: Path) -> tuple[MeshProcess, dict[str, str]]:
    worker = paced.worker(slots=SLOTS, service_s=SERVICE_S)
    keys = write_keys(folder / "keys.yaml", ["important", "usual", "bulk"])
    tenants = [
        {"name": "important", "priority": "high"},
        {"name": "usual"},
        {"name": "bulk", "priority": "bulk"},
    ]
    write_yaml(folder / "tenants.yaml", {"tenants": tenants})
    queue = {"in_flight_per_replica": SLOTS, "size": SLOTS, "max_wait_s": 2}
    gateway = paced.gateway(
        folder,
        [entry([worker], queue=queue)],
        *("--keys", str(folder / "keys.yaml"), "--tenants", str(folder / "tenants.yaml")),
    )
    return gateway, keys


async def test_f17_at_three_times_the_capacity_goodput_stays_and_who_matters_is_served(
    paced: Paced, tmp_path: Path, scale: Scale
) -> None:
    gateway, keys = _mesh_of_three_tenants(paced, tmp_path)
    seconds = scale.of(5, 60)
    async with (
        MeshClient(gateway.grpc_target, api_key=keys["usual"]) as usual,
        MeshClient(gateway.grpc_target, api_key=keys["bulk"]) as bulk,
        MeshClient(gateway.grpc_target, api_key=keys["important"]) as important,
    ):
        clients = {"usual": usual, "bulk": bulk, "important": important}
        at_peak = await at_concurrency(
            lambda: usual.infer("chat", SHORT), clients=2 * SLOTS, seconds=scale.of(3, 10)
        )
        rates = {"usual": 2.0, "bulk": 0.8, "important": 0.2}
        loads = await asyncio.gather(
            *(
                at_rate(
                    lambda client=clients[name]: client.infer("chat", SHORT),  # type: ignore[misc]
                    per_s=share * CAPACITY_PER_S,
                    seconds=seconds,
                )
                for name, share in rates.items()
            )
        )
    outcomes = dict(zip(rates, loads, strict=True))
    every = [one for load in loads for one in load]
    refused = [one for one in every if one.is_refused]
    assert {reason.partition(":")[0] for reason in failures(every)} <= {"OVERLOADED"}
    assert failures(outcomes["important"]) == []
    assert goodput(every) >= 0.9 * goodput(at_peak)
    accepted = [one.seconds for one in every if one.error is None]
    assert percentile(accepted, 99) <= 2 * percentile([one.seconds for one in at_peak], 99)
    assert refused
    assert percentile([one.seconds for one in refused], 50) < 0.010
    assert percentile(_seconds_to_refuse(gateway), 75) < 0.010  # the others waited and gave way
    assert all(one.error is not None and one.error.retry_after_s for one in refused)


def _seconds_to_refuse(gateway: MeshProcess) -> list[float]:
    """How long refused calls were in the gateway, as it logs it: the client's own wait is not in it."""
    calls = [json.loads(line) for line in gateway.log_text().splitlines() if '"RESOURCE_EXHAUSTED"' in line]
    return [float(call["duration_s"]) for call in calls]


async def test_f16_after_a_storm_of_deadlines_nothing_was_started_too_late_and_nothing_is_left(
    paced: Paced, tmp_path: Path, scale: Scale
) -> None:
    worker = paced.worker(slots=2, service_s=0.5)
    gateway = paced.gateway(tmp_path, [entry([worker], queue={"in_flight_per_replica": 2})])
    ends_at = time.monotonic() + scale.of(3, 30)
    async with MeshClient(gateway.grpc_target) as client:
        await client.infer("chat", SHORT)
        while time.monotonic() < ends_at:
            storm = await asyncio.gather(
                *(one_call(lambda: client.infer("chat", SHORT, timeout_s=0.05)) for _ in range(100))
            )
            assert all(one.error is not None for one in storm)
            assert {type(one.error) for one in storm if not one.is_refused} <= {DeadlineExceededError}
        after = await one_call(lambda: client.infer("chat", SHORT, timeout_s=5))
    assert after.error is None
    assert after.seconds < 1.5
    stats = httpx.get(f"{worker.url}/stats").json()
    assert stats["started_late"] == 0

    def in_flight() -> float:
        return metric_sum(http_text_of(f"{gateway.url}/metrics"), "mesh_gateway_in_flight")

    wait_until(lambda: in_flight() == 0, "nothing runs any more", 2.0)
