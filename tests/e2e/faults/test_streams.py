"""Many streams at once: every token arrives, in order, at its pace, in bounded memory."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from inference_mesh.client import MeshClient
from tests.e2e.faults.conftest import Paced, Scale, entry
from tests.support.load import percentile

pytestmark = pytest.mark.faults

GAP_S = 0.1
MIB = 1024 * 1024


async def test_f24_many_streams_side_by_side_lose_no_token_and_stay_close_to_their_pace(
    paced: Paced, tmp_path: Path, scale: Scale
) -> None:
    streams, seconds = int(scale.of(50, 100)), scale.of(4, 60)
    worker = paced.worker(slots=1000, token_gap_s=GAP_S)
    gateway = paced.gateway(tmp_path, [entry([worker])])
    direct = await _gaps(worker.grpc_target, streams, 3)
    process = psutil.Process(gateway.pid)
    before = process.memory_info().rss
    through = await _gaps(gateway.grpc_target, streams, seconds)
    grown_mib = (process.memory_info().rss - before) / MIB
    assert grown_mib < 150
    assert percentile(through, 99) <= 2 * percentile(direct, 99)


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
