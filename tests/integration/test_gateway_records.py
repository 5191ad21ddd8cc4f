"""What a gateway keeps of calls, over the wire: answers that are given again, and usage records."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from inference_mesh.metadata import CACHE, DECISION, value_of
from inference_mesh.v1 import inference_pb2, payload_pb2
from tests.fakes.paced_worker import PacedWorker
from tests.support.callers import Credential, explained, write_callers
from tests.support.gateways import (
    RunningGateway,
    entry,
    prompt,
    running_gateway,
    running_worker,
    status_of,
    stream_prompt,
)

FIELDS = {
    "time",
    "request_id",
    "tenant",
    "key_id",
    "model",
    "version",
    "method",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "response_cached",
    "duration_s",
    "outcome",
}


@contextlib.asynccontextmanager
async def cached_model(
    name: str = "chat", **fields: Any
) -> AsyncIterator[tuple[PacedWorker, dict[str, Any]]]:
    """A worker of greedy streams, and its entry with a cache."""
    worker = PacedWorker(name, slots=8, service_s=0.0, token_gap_s=0.001, mute=False)
    await worker.start()
    try:
        yield worker, entry(name, f"127.0.0.1:{worker.port}", cache={"size_mb": 1}, **fields)
    finally:
        await worker.stop(0)


async def asked(
    mesh: RunningGateway,
    who: Credential,
    *,
    text: str = "x",
    request_id: str = "",
    temperature: float = 0.0,
    max_tokens: int = 5,
) -> tuple[str, list[inference_pb2.InferStreamResponse]]:
    """What a stream's head says of the cache, and its answers."""
    sampling = payload_pb2.Sampling(temperature=temperature)
    generate = payload_pb2.Generate(prompt=text, max_tokens=max_tokens, sampling=sampling)
    request = inference_pb2.InferStreamRequest(
        model="chat", request_id=request_id, payload=payload_pb2.Payload(generate=generate)
    )
    call = mesh.stub.InferStream(request, metadata=who)
    head = value_of(await call.initial_metadata(), CACHE) or ""
    answers = [answer async for answer in call]
    decision = value_of(await call.trailing_metadata(), DECISION) or ""
    assert not head or f"cache={head}" in decision
    return head, answers


def text_of(answers: list[inference_pb2.InferStreamResponse]) -> str:
    return "".join(answer.output.generate.text for answer in answers)


def records_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_kept_answer_is_flagged_and_has_its_callers_own_id(tmp_path: Path) -> None:
    callers, log = write_callers(tmp_path, {"name": "blue"}), tmp_path / "usage.jsonl"
    async with cached_model() as (worker, model):
        async with running_gateway(tmp_path, [model], usage_log=log, **callers.settings) as mesh:
            first_head, first = await asked(mesh, callers["blue"], request_id="first")
            second_head, second = await asked(mesh, callers["blue"], request_id="second")
    assert (first_head, second_head) == ("miss", "hit")
    assert text_of(first) == text_of(second) == "0 1 2 3 4 "
    assert {answer.request_id for answer in second} == {"second", ""}
    assert (first[-1].usage.response_cached, second[-1].usage.response_cached) == (False, True)
    assert worker.stats.started == 1
    assert [(one["request_id"], one["response_cached"]) for one in records_of(log)] == [
        ("first", False),
        ("second", True),
    ]


async def test_a_kept_answer_uses_nothing_of_a_budget(tmp_path: Path) -> None:
    limits = {"tokens": {"amount": 100, "per": "day"}}
    callers = write_callers(tmp_path, {"name": "blue", "limits": limits})
    async with cached_model() as (_, model):
        async with running_gateway(tmp_path, [model], **callers.settings) as mesh:
            heads = [(await asked(mesh, callers["blue"]))[0] for _ in range(30)]
            answer = await explained(mesh, "chat", callers["blue"])
    assert Counter(heads) == {"miss": 1, "hit": 29}
    assert [limit.remaining for limit in answer.limits] == [94]


async def test_tenants_share_no_kept_answers(tmp_path: Path) -> None:
    callers = write_callers(tmp_path, {"name": "blue"}, {"name": "green"})
    async with cached_model() as (worker, model):
        async with running_gateway(tmp_path, [model], **callers.settings) as mesh:
            tenants = ("blue", "green", "blue", "green")
            heads = [(await asked(mesh, callers[tenant]))[0] for tenant in tenants]
    assert heads == ["miss", "miss", "hit", "hit"]
    assert worker.stats.started == 2


async def test_only_whole_greedy_answers_are_kept(tmp_path: Path) -> None:
    limits = {"tokens": {"amount": 60, "per": "day"}}
    callers = write_callers(tmp_path, {"name": "blue"}, {"name": "poor", "limits": limits})
    async with cached_model() as (_, model):
        async with running_gateway(tmp_path, [model], **callers.settings) as mesh:
            sampled = [(await asked(mesh, callers["blue"], temperature=1.0))[0] for _ in range(2)]
            other = [(await asked(mesh, callers["blue"], text=text))[0] for text in "ab"]
            _, clamped = await asked(mesh, callers["poor"], max_tokens=500)
            status = await status_of(_again(mesh, callers["poor"]))
    assert sampled == ["", ""]
    assert other == ["miss", "miss"]
    assert clamped[-1].output.generate.length_reason == payload_pb2.LENGTH_REASON_TOKEN_BUDGET
    assert status.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def _again(mesh: RunningGateway, who: Credential) -> Any:
    sampling = payload_pb2.Sampling(temperature=0.0)
    generate = payload_pb2.Generate(prompt="x", max_tokens=500, sampling=sampling)
    payload = payload_pb2.Payload(generate=generate)
    return mesh.stub.InferStream(
        inference_pb2.InferStreamRequest(model="chat", payload=payload), metadata=who
    )


async def test_a_stream_that_was_cancelled_is_not_kept(tmp_path: Path) -> None:
    callers = write_callers(tmp_path, {"name": "blue"})
    async with cached_model() as (_, model):
        async with running_gateway(tmp_path, [model], **callers.settings) as mesh:
            call = _again(mesh, callers["blue"])
            await anext(aiter(call))
            call.cancel()
            head, answers = await asked(mesh, callers["blue"], max_tokens=500)
    assert head == "miss"
    assert len(answers) == 500


async def test_every_call_has_one_record_however_it_ends(tmp_path: Path) -> None:
    callers, log = write_callers(tmp_path, {"name": "blue"}), tmp_path / "usage.jsonl"
    async with running_worker("one") as one:
        models = [
            entry("one", one),
            entry("down", "127.0.0.1:9", fallback=["one"]),
            entry("gone", "127.0.0.1:9"),
        ]
        async with running_gateway(tmp_path, models, usage_log=log, **callers.settings) as mesh:
            who = callers["blue"]
            await mesh.stub.Infer(prompt("one", request_id="fine"), metadata=who)
            await mesh.stub.Infer(prompt("down", request_id="fallen"), metadata=who)
            await status_of(mesh.stub.Infer(prompt("gone", request_id="gone"), metadata=who))
            await status_of(
                mesh.stub.Infer(prompt("one", "status=INVALID_ARGUMENT", request_id="wrong"), metadata=who)
            )
            await status_of(
                mesh.stub.Infer(prompt("one", "delay=5", request_id="late"), metadata=who, timeout=0.2)
            )
            stream = mesh.stub.InferStream(stream_prompt("one", "tokens=50 gap=0.02"), metadata=who)
            pieces = aiter(stream)
            for _ in range(3):
                await anext(pieces)
            stream.cancel()
            await asyncio.wait_for(one.cancelled.wait(), 5)
    records = {record["request_id"]: record for record in records_of(log)}
    left = next(record for record in records_of(log) if record["method"] == "InferStream")
    assert len(records_of(log)) == 6
    assert all(set(record) == FIELDS for record in records.values())
    assert {name: (one["model"], one["outcome"]) for name, one in records.items() if len(name) < 10} == {
        "fine": ("one", "OK"),
        "fallen": ("one", "OK"),
        "gone": ("gone", "UNAVAILABLE"),
        "wrong": ("one", "INVALID_ARGUMENT"),
        "late": ("one", "DEADLINE_EXCEEDED"),
    }
    assert left["outcome"] == "CANCELLED"
    assert left["prompt_tokens"] == 3
    assert 3 <= left["completion_tokens"] < 50


async def test_no_record_is_lost_when_the_gateway_stops_in_the_middle_of_streams(tmp_path: Path) -> None:
    callers, log = write_callers(tmp_path, {"name": "blue"}), tmp_path / "usage.jsonl"
    async with running_worker("one") as one:
        async with running_gateway(tmp_path, [entry("one", one)], usage_log=log, **callers.settings) as mesh:
            who = callers["blue"]
            streams = [
                mesh.stub.InferStream(stream_prompt("one", "tokens=1000 gap=0.02"), metadata=who)
                for _ in range(10)
            ]
            await asyncio.gather(*(anext(aiter(stream)) for stream in streams))
            await asyncio.gather(*(mesh.stub.Infer(prompt("one"), metadata=who) for _ in range(100)))
            await mesh.gateway.drain()
            await mesh.gateway.stop(0.1)
            records = records_of(log)
    assert Counter(record["method"] for record in records) == {"Infer": 100, "InferStream": 10}
    assert all(record["completion_tokens"] >= 1 for record in records if record["method"] == "InferStream")
