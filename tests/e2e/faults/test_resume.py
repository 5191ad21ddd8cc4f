"""F2: a replica dies in the middle of its streams, and another goes on with each of them."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from inference_mesh.client import MeshClient
from inference_mesh.json_payload import payload_from_json
from inference_mesh.metadata import DECISION, DELIVERED, value_of
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2
from tests.e2e.faults.conftest import Paced, entry, write_yaml
from tests.support.exact_model import write_exact
from tests.support.llama_engine import EXACT, FULL
from tests.support.logits import Logits, first_difference
from tests.support.processes import TINY_CHAT, MeshProcess, ProcessGroup, http_text_of, metric_sum
from workers.llama.placement import Placement

pytestmark = pytest.mark.faults

NEVER_ENDING = {"0": -100, "1": -100, "2": -100}
TOKENS = 600
CLOSE = 1e-3
QUESTIONS = ("Who are you?", "What is an inference mesh?", "Tell me a story.", "What can you do?")
GREEDY: dict[str, Any] = {
    "prompt": "Once upon a time",
    "temperature": 0,
    "max_tokens": TOKENS,
    "logit_bias": NEVER_ENDING,
}
SEEDED = {**GREEDY, "temperature": 0.9, "seed": 7}
UNSEEDED = {key: value for key, value in GREEDY.items() if key != "temperature"}


def _mesh(
    group: ProcessGroup, folder: Path, model: Path = TINY_CHAT, placement: Placement = EXACT
) -> tuple[list[MeshProcess], MeshProcess]:
    values = placement.value_type or placement.cache_type
    cache = ("--kv-cache-type", placement.cache_type, "--kv-cache-value-type", values)
    attention = ("--flash-attention", placement.flash_attention)
    workers = [group.worker(model, *cache, *attention, name="tiny-chat", runtime="llama") for _ in range(2)]
    for worker in workers:
        worker.wait_until_ready()
    targets = [worker.grpc_target for worker in workers]
    entries = [{"name": "tiny-chat", "endpoints": targets}]
    gateway = group.gateway(write_yaml(folder / "models.yaml", {"version": 1, "models": entries}))
    gateway.wait_until_ready()
    return workers, gateway


async def _unbroken(client: MeshClient, payload: dict[str, Any]) -> list[int]:
    return [
        token async for piece in client.stream("tiny-chat", payload) for token in piece.output.generate.tokens
    ]


@pytest.mark.parametrize("payload", [GREEDY, SEEDED], ids=["greedy", "seeded"])
async def test_f2_a_broken_stream_goes_on_elsewhere_to_its_whole_length(
    group: ProcessGroup, tmp_path: Path, payload: dict[str, Any]
) -> None:
    # Quantised weights move the logits by 0.1 and more with the shape of a batch; 32 bits do not.
    exact = tmp_path / "exact.gguf"
    write_exact(TINY_CHAT, exact)
    workers, gateway = _mesh(group, tmp_path, exact, FULL)
    async with MeshClient(gateway.grpc_target, timeout_s=90) as client:
        unbroken = await _unbroken(client, payload)
    async with grpc.aio.insecure_channel(gateway.grpc_target) as channel:
        stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)
        streams = [_Stream(stub, payload) for _ in range(8)]
        await _kill_one_amid(workers, streams)
        await asyncio.gather(*(stream.reading for stream in streams))
    assert {(len(stream.tokens), stream.said) for stream in streams} == {(TOKENS, TOKENS)}
    assert _resumed(gateway) > 0
    gaps = _gaps_where_they_part(exact, unbroken, [stream.tokens for stream in streams])
    print("distance of the two best logits where answers part:", gaps)
    # A draw may also fall on the border of two tokens that are not close: seeded runs are only shown.
    assert payload is not GREEDY or max(gaps, default=0.0) <= CLOSE


async def test_f2_resumed_answers_equal_unbroken_ones(group: ProcessGroup, tmp_path: Path) -> None:
    workers, gateway = _mesh(group, tmp_path)
    questions = [
        {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 60}
        for text in QUESTIONS
    ]
    async with MeshClient(gateway.grpc_target, timeout_s=90) as client:
        unbroken = [await _unbroken(client, question) for question in questions]
    async with grpc.aio.insecure_channel(gateway.grpc_target) as channel:
        stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)
        streams = [_Stream(stub, question) for _ in range(20) for question in questions]
        await _kill_one_amid(workers, streams)
        await asyncio.gather(*(stream.reading for stream in streams))
    assert _resumed(gateway) > 0
    assert [stream.tokens for stream in streams] == unbroken * 20


@pytest.mark.parametrize(
    ("payload", "fields"), [(UNSEEDED, {}), (GREEDY, {"resume": False})], ids=["unseeded", "switched off"]
)
async def test_f2_a_stream_that_nobody_can_go_on_with_ends_typed_with_what_was_delivered(
    paced: Paced, tmp_path: Path, payload: dict[str, Any], fields: dict[str, Any]
) -> None:
    workers = paced.workers(2, slots=8, token_gap_s=0.02)
    gateway = paced.gateway(tmp_path, [entry(workers, **fields)])
    generate = payload_pb2.Generate(prompt=payload["prompt"], max_tokens=TOKENS)
    if "temperature" in payload:
        generate.sampling.temperature = payload["temperature"]
    request = inference_pb2.InferStreamRequest(model="chat", payload=payload_pb2.Payload(generate=generate))
    async with grpc.aio.insecure_channel(gateway.grpc_target) as channel:
        stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)
        calls = [stub.InferStream(request, timeout=60) for _ in range(4)]
        begun = [asyncio.Event() for _ in calls]
        reading = [asyncio.ensure_future(_until_end(*one)) for one in zip(calls, begun, strict=True)]
        await asyncio.gather(*(one.wait() for one in begun))
        for worker in workers:
            worker.signal(signal.SIGKILL)
        killed = time.monotonic()
        ends = await asyncio.gather(*reading)
        for call, (tokens, ended) in zip(calls, ends, strict=True):
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
            assert ended - killed < 0.25
            told = value_of(tuple(await call.trailing_metadata()), DELIVERED)
            assert told == str(tokens)
            assert tokens > 0


def _gaps_where_they_part(model: Path, unbroken: list[int], others: list[list[int]]) -> list[float]:
    """How close the choice was at each place where an answer leaves the unbroken one.

    The shape of a batch moves the last bits of its logits, so a greedy choice between two that
    are nearly equal may fall either way, with or without a break.
    """
    places = {place for tokens in others if (place := first_difference(unbroken, tokens)) is not None}
    if not places:
        return []
    logits = Logits(model, FULL)
    forbidden = [int(token) for token in NEVER_ENDING]
    gaps = [logits.gap(GREEDY["prompt"], unbroken[:place], forbidden) for place in sorted(places)]
    logits.close()
    return gaps


def _resumed(gateway: MeshProcess) -> float:
    metrics = http_text_of(f"{gateway.url}/metrics")
    return metric_sum(metrics, "mesh_gateway_broken_streams_total", result="resumed")


class _Stream:
    """Owns one call that is read as it comes."""

    def __init__(self, stub: Any, payload: dict[str, Any]) -> None:
        request = inference_pb2.InferStreamRequest(
            model="tiny-chat", payload=payload_from_json(payload_pb2.TASK_GENERATE, payload)
        )
        self.tokens: list[int] = []
        self.said = 0
        self._finished = False
        self._call = stub.InferStream(request, timeout=90)
        self.reading = asyncio.ensure_future(self._read())

    @property
    def amid(self) -> bool:
        """Whether its answer has begun and lacks its last piece."""
        return bool(self.tokens) and not self._finished

    async def endpoint(self) -> str:
        """Where its answer comes from, as the gateway says."""
        decision = value_of(tuple(await self._call.initial_metadata()), DECISION) or ""
        return dict(part.partition("=")[::2] for part in decision.split(";"))["endpoint"]

    async def _read(self) -> None:
        async for piece in self._call:
            generated = piece.output.generate
            self.tokens += generated.tokens
            self.said = piece.usage.completion_tokens
            self._finished = generated.finish_reason != payload_pb2.FINISH_REASON_UNSPECIFIED


async def _kill_one_amid(workers: list[MeshProcess], streams: list[_Stream]) -> None:
    """Kill the worker that is in the middle of most streams, and let the other go on."""
    while (amid := await _most_amid(workers, streams)) is None:
        assert not all(stream.reading.done() for stream in streams)
        await asyncio.sleep(0.002)
    amid.signal(signal.SIGKILL)
    for worker in workers:
        if worker is not amid:
            worker.signal(signal.SIGCONT)


async def _most_amid(workers: list[MeshProcess], streams: list[_Stream]) -> MeshProcess | None:
    """Stop all workers; the one that is in the middle of most streams. If none is, they go on.

    An answer takes 20 ms: what is looked at while workers run has ended before it was seen.
    """
    for worker in workers:
        worker.signal(signal.SIGSTOP)
    arrived = -1
    while arrived != (arrived := sum(len(stream.tokens) for stream in streams)):
        await asyncio.sleep(0.1)  # until everything that was on its way is here
    places = [await stream.endpoint() for stream in streams if stream.amid]
    if places:
        return max(workers, key=lambda worker: places.count(worker.grpc_target))
    for worker in workers:
        worker.signal(signal.SIGCONT)
    return None


async def _until_end(call: Any, begun: asyncio.Event) -> tuple[int, float]:
    """Tokens that a stream delivered, and when it ended."""
    tokens = 0
    try:
        async for piece in call:
            tokens += len(piece.output.generate.tokens)
            if tokens:
                begun.set()
    except grpc.aio.AioRpcError:
        pass
    return tokens, time.monotonic()
