"""More work than the replicas can do: what is served, what is refused, and whose it is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference_mesh.client import MeshClient
from inference_mesh.errors import DeadlineExceededError
from tests.e2e.faults.conftest import Paced, Scale, entry, write_keys, write_yaml
from tests.support.leftovers import Leftovers
from tests.support.load import Outcome, at_concurrency, at_rate, failures, goodput, one_call, percentile
from tests.support.processes import MeshProcess

pytestmark = pytest.mark.faults

SHORT: dict[str, Any] = {"prompt": "a", "max_tokens": 4, "temperature": 0}
SLOTS, SERVICE_S = 4, 0.1
CAPACITY_PER_S = SLOTS / SERVICE_S
AT_ONCE = 100
"""Calls of a storm side by side: of thousands, gRPC itself cancels those that wait to be taken."""


def _mesh_of_three_tenants(paced: Paced, folder: Path) -> tuple[MeshProcess, MeshProcess, dict[str, str]]:
    """A gateway, its worker, and the key of each tenant."""
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
    return gateway, worker, keys


async def test_f17_at_three_times_the_capacity_goodput_stays_and_who_matters_is_served(
    paced: Paced, tmp_path: Path, scale: Scale
) -> None:
    gateway, worker, keys = _mesh_of_three_tenants(paced, tmp_path)
    leftovers = Leftovers(gateway)
    async with contextlib.AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(MeshClient(gateway.grpc_target, api_key=key))
            for name, key in keys.items()
        }
        at_peak = await at_concurrency(
            lambda: clients["usual"].infer("chat", SHORT), clients=2 * SLOTS, seconds=scale.of(3, 10)
        )
        outcomes, control = await _overload(clients, seconds=scale.of(5, 60))
    every = [one for load in outcomes.values() for one in load]
    refused = [one for one in every if one.is_refused]
    assert {reason.partition(":")[0] for reason in failures(every)} <= {"OVERLOADED"}
    assert failures(outcomes["important"]) == []
    assert goodput(every) >= 0.9 * goodput(at_peak)
    accepted = [one.seconds for one in every if one.error is None]
    assert percentile(accepted, 99) <= 2 * percentile([one.seconds for one in at_peak], 99)
    assert len(refused) > len(every) / 2
    assert all(one.error is not None and one.error.retry_after_s for one in refused)
    # Both against calls that the gateway answers itself, which wait for nothing but the machine.
    inside, floor = _gateway_seconds(gateway, code="RESOURCE_EXHAUSTED"), _gateway_seconds(gateway, code="OK")
    assert percentile(inside, 99) < 0.010 + percentile(floor, 99)
    assert percentile([one.seconds for one in refused], 99) < 0.010 + max(one.seconds for one in control)
    await asyncio.to_thread(leftovers.wait_until_none, [worker])


async def _overload(
    clients: dict[str, MeshClient], *, seconds: float
) -> tuple[dict[str, list[Outcome]], list[Outcome]]:
    """What became of each tenant's calls, at three times the capacity, and of a control beside them."""
    rates = {"usual": 2.0, "bulk": 0.8, "important": 0.2}
    *loads, control = await asyncio.gather(
        *(
            at_rate(
                partial(clients[name].infer, "chat", SHORT), per_s=share * CAPACITY_PER_S, seconds=seconds
            )
            for name, share in rates.items()
        ),
        at_rate(clients["important"].models, per_s=CAPACITY_PER_S, seconds=seconds),
    )
    return dict(zip(rates, loads, strict=True)), control


def _gateway_seconds(gateway: MeshProcess, *, code: str) -> list[float]:
    """How long calls were in the gateway, as it logs it: refused ones, or listings for OK."""
    calls = [json.loads(line) for line in gateway.log_text().splitlines() if '"call"' in line]
    method = "ListModels" if code == "OK" else "Infer"
    return [float(call["duration_s"]) for call in calls if (call["method"], call["code"]) == (method, code)]


async def test_f16_after_a_storm_of_deadlines_nothing_was_started_too_late_and_nothing_is_left(
    paced: Paced, tmp_path: Path, scale: Scale
) -> None:
    worker = paced.worker(slots=2, service_s=0.5)
    gateway = paced.gateway(tmp_path, [entry([worker], queue={"in_flight_per_replica": 2})])
    leftovers = Leftovers(gateway)
    async with MeshClient(gateway.grpc_target) as client:
        await client.infer("chat", SHORT)
        usual = await one_call(lambda: client.infer("chat", SHORT))
        ends_at = time.monotonic() + scale.of(3, 30)
        while time.monotonic() < ends_at:
            storm = await asyncio.gather(
                *(one_call(lambda: client.infer("chat", SHORT, timeout_s=0.05)) for _ in range(AT_ONCE))
            )
            assert all(one.error is not None for one in storm)
            assert {type(one.error) for one in storm if not one.is_refused} <= {DeadlineExceededError}
        after = await one_call(lambda: client.infer("chat", SHORT, timeout_s=5))
    assert after.error is None
    assert after.seconds < usual.seconds + 1.0
    stats = httpx.get(f"{worker.url}/stats").json()
    assert stats["started_late"] == 0
    assert stats["completed"] == 3, "only the calls that had the time were worked on to their end"
    await asyncio.to_thread(leftovers.wait_until_none, [worker])
