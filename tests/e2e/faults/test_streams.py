"""Many streams at once: every token arrives at its pace, and none is made for a caller who left."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from inference_mesh.client import MeshClient
from tests.e2e.faults.conftest import Paced, Scale, entry, write_yaml
from tests.support.leftovers import Leftovers
from tests.support.load import percentile
from tests.support.processes import (
    TINY_CHAT,
    MeshProcess,
    ProcessGroup,
    http_text_of,
    metric_sum,
    wait_until,
)

pytestmark = pytest.mark.faults

GAP_S = 0.1
MIB = 1024 * 1024
NEVER_ENDING = {"0": -100, "1": -100, "2": -100}
LONG: dict[str, Any] = {
    "prompt": "Once upon a time",
    "temperature": 0,
    "max_tokens": 1500,
    "logit_bias": NEVER_ENDING,
}


async def test_f24_many_streams_side_by_side_lose_no_token_and_stay_close_to_their_pace(
    paced: Paced, tmp_path: Path, scale: Scale
) -> None:
    streams, seconds = int(scale.of(50, 100)), scale.of(4, 60)
    worker = paced.worker(slots=1000, token_gap_s=GAP_S)
    gateway = paced.gateway(tmp_path, [entry([worker])])
    leftovers = Leftovers(gateway)
    direct = await _gaps(worker.grpc_target, streams, 3)
    process = psutil.Process(gateway.pid)
    before = process.memory_info().rss
    through = await _gaps(gateway.grpc_target, streams, seconds)
    grown_mib = (process.memory_info().rss - before) / MIB
    direct_after = await _gaps(worker.grpc_target, streams, 3)
    assert grown_mib < 150
    assert percentile(through, 99) <= 2 * max(percentile(direct, 99), percentile(direct_after, 99))
    await asyncio.to_thread(leftovers.wait_until_none, [worker])


async def _gaps(target: str, streams: int, seconds: float) -> list[float]:
    """The times between the tokens of all streams. Fails if one is not whole and in order."""
    count = int(seconds / GAP_S)

    async def one(client: MeshClient) -> list[float]:
        tokens: list[int] = []
        times: list[float] = []
        payload = {"prompt": "a", "max_tokens": count, "temperature": 0}
        async for piece in client.stream("chat", payload, timeout_s=seconds + 60):
            tokens += piece.output.generate.tokens
            times.append(time.monotonic())
        assert tokens == list(range(count))
        return [late - early for early, late in pairwise(times)]

    async with MeshClient(target) as client:
        found = await asyncio.gather(*(one(client) for _ in range(streams)))
    return [gap for gaps in found for gap in gaps]


@pytest.mark.parametrize("way_in", ["grpc", "rest"])
async def test_f26_when_callers_leave_their_slots_are_free_within_200_ms_and_no_token_is_made_after(
    group: ProcessGroup, tmp_path: Path, way_in: str
) -> None:
    worker = group.worker(TINY_CHAT, name="tiny-chat", runtime="llama")
    worker.wait_until_ready()
    models = {"version": 1, "models": [{"name": "tiny-chat", "endpoints": [worker.grpc_target]}]}
    gateway = group.gateway(write_yaml(tmp_path / "models.yaml", models))
    gateway.wait_until_ready()
    bridge = group.bridge(gateway)
    bridge.wait_until_ready()
    leftovers = Leftovers(gateway)
    async with MeshClient(gateway.grpc_target) as client, httpx.AsyncClient() as http:
        async with contextlib.AsyncExitStack() as callers:
            for _ in range(3):
                opened = _over_grpc(client) if way_in == "grpc" else _over_rest(http, bridge.url)
                await callers.enter_async_context(opened)
            asked = time.monotonic()
            assert _of_worker(worker, "in_flight") == 3
            usual_s = time.monotonic() - asked
        freed_s = await asyncio.to_thread(
            wait_until, lambda: _of_worker(worker, "in_flight") == 0, "the slots are free", 5.0
        )
    assert freed_s < 0.2 + usual_s
    made = _of_worker(worker, "tokens_total", kind="completion")
    async with MeshClient(gateway.grpc_target) as client:
        answer = await client.infer("tiny-chat", LONG | {"max_tokens": 60})
    assert answer.usage.completion_tokens == 60
    assert _of_worker(worker, "tokens_total", kind="completion") == made + 60
    await asyncio.to_thread(leftovers.wait_until_none, [])


def _of_worker(worker: MeshProcess, name: str, **labels: str) -> float:
    return metric_sum(http_text_of(f"{worker.url}/metrics"), f"mesh_worker_{name}", **labels)


@contextlib.asynccontextmanager
async def _over_grpc(client: MeshClient) -> AsyncIterator[None]:
    """A stream whose first token is there, and whose caller leaves at the end of the block."""
    stream: Any = client.stream("tiny-chat", LONG)
    async with contextlib.aclosing(stream):
        await anext(stream)
        yield


@contextlib.asynccontextmanager
async def _over_rest(http: httpx.AsyncClient, url: str) -> AsyncIterator[None]:
    """Likewise, as server-sent events."""
    body = {"model": "tiny-chat", "payload": LONG, "stream": True}
    async with http.stream("POST", f"{url}/api/infer", json=body) as answer:
        lines = answer.aiter_lines()  # the answer is closed with it
        await anext(lines)
        yield
