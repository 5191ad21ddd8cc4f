"""What the REST bridge costs: a call, a stream, an embedding's form; and LiteLLM's proxy beside the mesh.

Upstream computes nothing, so that only the servers in between are measured. CPU of processes is read
from /proc; rounds are interleaved, and medians reported.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import httpx
import numpy as np

from inference_mesh import strict_json
from inference_mesh.v1 import inference_pb2, payload_pb2
from rest_bridge.fields import Fields
from rest_bridge.openai.embeddings import read_embedding
from tests.bench.bridge_scene import Scene, Server, scene
from tests.bench.report import Figure, print_table, write_report
from tests.support.processes import cpu_seconds

COMMAND = "make bench-bridge"
CONCURRENCY = 8
CALLS = 160
STREAMS = 24
TOKENS = 256
TOKEN_GAP_S = 0.01
TEXTS, DIMENSIONS = 32, 384
CONVERSIONS = 200

CALL = "CPU of the bridge per call of POST /api/infer with 64 B of JSON, ms"
STREAM = f"CPU of the bridge per SSE stream of {TOKENS} tokens, ms"
AS_NUMBERS = f"{TEXTS} x {DIMENSIONS} embeddings as JSON numbers: conversion, ms"
AS_BASE64 = f"{TEXTS} x {DIMENSIONS} embeddings as base64: conversion, ms"
OURS = "CPU per chat call of bridge and gateway together, ms"
THEIRS = "CPU per chat call of LiteLLM's proxy, ms"
RATIO = "CPU per chat call, LiteLLM's proxy / bridge and gateway"

MOST = {STREAM: 8.0, AS_NUMBERS: 1.0, AS_BASE64: 0.3}
LEAST = {RATIO: 20.0}

Call = Callable[[httpx.AsyncClient], Awaitable[None]]


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; the median is reported")
    parser.add_argument("--quick", action="store_true", help="two rounds, and no LiteLLM")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        scene(Path(folder), with_litellm=not given.quick) as servers,
    ):
        samples = asyncio.run(_measure(servers, 2 if given.quick else given.rounds))
    medians = {name: statistics.median(values) for name, values in samples.items()}
    if THEIRS in medians:
        medians[RATIO] = medians[THEIRS] / medians[OURS]
    figures = [_figure(name, value) for name, value in medians.items()]
    rows = [
        [one.figure, f"{one.value:.3f}", one.target or "-", "yes" if one.holds else "NO"] for one in figures
    ]
    print_table(["figure", "value", "target", "holds"], rows)
    print(f"\n{len(figures)} figures in {write_report('bridge', figures)}; reproduce with: {COMMAND}")


def _figure(name: str, value: float) -> Figure:
    if name in MOST:
        return Figure(name, round(value, 4), COMMAND, f"<= {MOST[name]:g}", value <= MOST[name])
    if name in LEAST:
        return Figure(name, round(value, 4), COMMAND, f">= {LEAST[name]:g}", value >= LEAST[name])
    return Figure(name, round(value, 4), COMMAND)


async def _measure(servers: Scene, rounds: int) -> dict[str, list[float]]:
    """Milliseconds by figure, one for each round; a round before them warms up and is not counted."""
    samples: dict[str, list[float]] = {}
    for number in range(-1, rounds):
        print(f"\rround {max(number, 0) + 1}/{rounds}", end="", flush=True)
        for name, value in (await _round(servers)).items():
            if number >= 0:
                samples.setdefault(name, []).append(value)
    print("\r".ljust(40))
    return samples


async def _round(servers: Scene) -> dict[str, float]:
    found = {
        CALL: await _cost(servers.bridge, _infer, CALLS),
        STREAM: await _cost(servers.bridge, _stream, STREAMS),
        AS_NUMBERS: _conversion("float"),
        AS_BASE64: _conversion("base64"),
        OURS: await _cost(servers.mesh, _chat, CALLS),
    }
    if servers.litellm is not None:
        found[THEIRS] = await _cost(servers.litellm, _chat, CALLS)
    return found


async def _cost(server: Server, call: Call, calls: int) -> float:
    """CPU of the server's processes per call, in ms."""
    left = iter(range(calls))
    headers = {"authorization": f"Bearer {server.key}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60, trust_env=False) as http:

        async def caller() -> None:
            for _ in left:
                await call(http)

        await call(http)
        before = _spent_s(server.pids)
        await asyncio.gather(*(caller() for _ in range(CONCURRENCY)))
        return (_spent_s(server.pids) - before) / calls * 1e3


def _spent_s(pids: Sequence[int]) -> float:
    return sum(cpu_seconds(pid) for pid in pids)


async def _infer(http: httpx.AsyncClient) -> None:
    document = {"model": "chat", "payload": {"prompt": "so long a text that all is 64 B"}}
    (await http.post("/api/infer", json=document)).raise_for_status()


async def _chat(http: httpx.AsyncClient) -> None:
    messages = [{"role": "user", "content": "delay=0"}]
    answer = await http.post("/v1/chat/completions", json={"model": "chat", "messages": messages})
    answer.raise_for_status()
    said = answer.json()["choices"][0]["message"]["content"]
    assert said == "yes, it is", said


async def _stream(http: httpx.AsyncClient) -> None:
    document = {"model": "chat", "prompt": f"tokens={TOKENS} gap={TOKEN_GAP_S}", "stream": True}
    async with http.stream("POST", "/v1/completions", json=document) as answer:
        answer.raise_for_status()
        events = (await answer.aread()).count(b"data: ")
    assert events >= TOKENS, f"{events} events of {TOKENS} tokens"


def _conversion(form: str) -> float:
    """Milliseconds from the gateway's message to the answer's bytes."""
    vectors = np.random.default_rng(0).standard_normal((TEXTS, DIMENSIONS), dtype=np.float32)
    embed = payload_pb2.Embeddings(dimensions=DIMENSIONS, values=vectors.tobytes())
    message = inference_pb2.InferResponse(model="minilm", output=payload_pb2.Output(embed=embed))
    asked = read_embedding(Fields({"model": "minilm", "input": ["x"] * TEXTS, "encoding_format": form}), "")
    taken = []
    for _ in range(CONVERSIONS):
        started = time.perf_counter()
        strict_json.dumps(asked.document([message]))
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e3


if __name__ == "__main__":
    main()
