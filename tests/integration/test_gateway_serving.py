"""Budgets, limits, tenants and what a caller is told of them, over the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from inference_mesh import limit_standing
from inference_mesh.error_status import STATUS_DETAILS, error_from_rpc
from inference_mesh.errors import ModelNotFoundError, QuotaError, TokenBudgetError
from inference_mesh.metadata import DECISION, LIMITS, RETRY_PUSHBACK, bytes_of, value_of
from inference_mesh.v1 import inference_pb2, payload_pb2
from tests.fakes.paced_worker import PacedWorker
from tests.support.callers import Callers, explained, write_callers
from tests.support.gateways import (
    entry,
    facts,
    prompt,
    running_gateway,
    running_worker,
    status_of,
    stream_prompt,
)

BUDGET = 1000
BLUE = {"name": "blue", "limits": {"tokens": {"amount": BUDGET, "per": "day"}}}


@contextlib.asynccontextmanager
async def paced_worker(name: str, *, slots: int = 64, token_gap_s: float = 0.002) -> AsyncIterator[Any]:
    worker = PacedWorker(name, slots=slots, service_s=0.0, token_gap_s=token_gap_s, mute=False)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop(0)


def paced(name: str, worker: PacedWorker, **fields: Any) -> dict[str, Any]:
    return entry(name, f"127.0.0.1:{worker.port}", **fields)


def wish(max_tokens: int, text: str = "x", model: str = "chat") -> inference_pb2.InferStreamRequest:
    generate = payload_pb2.Generate(prompt=text, max_tokens=max_tokens)
    return inference_pb2.InferStreamRequest(model=model, payload=payload_pb2.Payload(generate=generate))


def records_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def used_in(path: Path) -> int:
    return sum(record["prompt_tokens"] + record["completion_tokens"] for record in records_of(path))


async def remaining(mesh: Any, callers: Callers, tenant: str = "blue") -> float:
    answer = await explained(mesh, "chat", callers[tenant])
    return next(limit.remaining for limit in answer.limits if limit.kind == "tokens")


async def streamed(call: Any, *, leave_after: int = 10**6) -> str:
    """How a stream ended: the name of its code, or "left"."""
    seen = 0
    try:
        async for _ in call:
            seen += 1
            if seen == leave_after:
                call.cancel()
                return "left"
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def test_64_streams_at_once_never_use_more_than_the_budget_and_all_else_comes_back(
    tmp_path: Path,
) -> None:
    callers, log = write_callers(tmp_path, BLUE), tmp_path / "usage.jsonl"
    async with (
        paced_worker("chat") as worker,
        running_gateway(tmp_path, [paced("chat", worker)], usage_log=log, **callers.settings) as mesh,
    ):
        calls = [mesh.stub.InferStream(wish(40), metadata=callers["blue"]) for _ in range(64)]
        ends = await asyncio.gather(*map(streamed, calls))
        left = await remaining(mesh, callers)
        made = worker.stats.tokens + worker.stats.started
    assert set(ends) == {"OK", "RESOURCE_EXHAUSTED"}
    assert made == used_in(log) == BUDGET - left
    assert made <= BUDGET


async def test_streams_that_are_cancelled_in_the_middle_give_back_what_they_did_not_get(
    tmp_path: Path,
) -> None:
    callers, log = write_callers(tmp_path, BLUE), tmp_path / "usage.jsonl"
    async with (
        paced_worker("chat") as worker,
        running_gateway(tmp_path, [paced("chat", worker)], usage_log=log, **callers.settings) as mesh,
    ):
        calls = [mesh.stub.InferStream(wish(40), metadata=callers["blue"]) for _ in range(64)]
        leaves = [3 if number % 2 else 10**6 for number in range(64)]
        ends = await asyncio.gather(
            *(streamed(call, leave_after=after) for call, after in zip(calls, leaves, strict=True))
        )
        async with asyncio.timeout(5):
            while worker.stats.running:
                await asyncio.sleep(0.01)
        left = await remaining(mesh, callers)
    assert "left" in ends
    assert used_in(log) == BUDGET - left
    assert 0 < used_in(log) <= BUDGET


async def test_a_stream_that_the_budget_clamps_ends_with_length(tmp_path: Path) -> None:
    callers = write_callers(tmp_path, BLUE)
    async with (
        paced_worker("chat", token_gap_s=0) as worker,
        running_gateway(tmp_path, [paced("chat", worker)], **callers.settings) as mesh,
    ):
        answers = [answer async for answer in mesh.stub.InferStream(wish(5000), metadata=callers["blue"])]
        left = await remaining(mesh, callers)
        status = await status_of(mesh.stub.InferStream(wish(1), metadata=callers["blue"]))
    last = answers[-1].output.generate
    assert last.finish_reason == payload_pb2.FINISH_REASON_LENGTH
    assert last.length_reason == payload_pb2.LENGTH_REASON_TOKEN_BUDGET
    assert worker.stats.tokens + 1 == BUDGET - left
    assert isinstance(error_from_rpc(status), TokenBudgetError)


async def test_nobody_gets_what_a_clamped_stream_with_a_long_prompt_may_still_use(tmp_path: Path) -> None:
    callers = write_callers(tmp_path, BLUE)
    async with (
        paced_worker("chat", token_gap_s=0.001) as worker,
        running_gateway(tmp_path, [paced("chat", worker)], **callers.settings) as mesh,
    ):
        first = mesh.stub.InferStream(wish(5000, "x" * 500), metadata=callers["blue"])
        await anext(aiter(first))
        other = await streamed(mesh.stub.InferStream(wish(400), metadata=callers["blue"]))
        assert await streamed(first) == "OK"
        left = await remaining(mesh, callers)
    assert worker.stats.tokens + worker.stats.started <= BUDGET
    assert worker.stats.tokens + worker.stats.started == BUDGET - left
    assert other == "RESOURCE_EXHAUSTED"


async def test_nobody_gets_what_a_fallback_with_longer_answers_may_still_use(tmp_path: Path) -> None:
    callers = write_callers(tmp_path, BLUE)
    async with paced_worker("small", token_gap_s=0.001) as worker:
        models = [entry("big", "127.0.0.1:9", max_tokens=10, fallback=["small"]), paced("small", worker)]
        async with running_gateway(tmp_path, models, **callers.settings) as mesh:
            request = wish(5000, "x" * 700, "big")
            first = mesh.stub.InferStream(request, metadata=callers["blue"])
            await anext(aiter(first))
            request = wish(500, model="small")
            other = await streamed(mesh.stub.InferStream(request, metadata=callers["blue"]))
            assert await streamed(first) == "OK"
    assert worker.stats.tokens + worker.stats.started <= BUDGET
    assert other == "OK"


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        ({"requests_per_second": 0.1, "burst": 1}, "requests"),
        ({"concurrency": 1}, "concurrency"),
        ({"tokens": {"amount": 60, "per": "day"}}, "tokens"),
    ],
)
async def test_a_limit_refuses_with_its_name_and_says_when_to_come_back(
    tmp_path: Path, limits: dict[str, Any], kind: str
) -> None:
    callers = write_callers(tmp_path, {"name": "blue", "limits": limits})
    async with (
        paced_worker("chat", token_gap_s=0.05) as worker,
        running_gateway(tmp_path, [paced("chat", worker)], **callers.settings) as mesh,
    ):
        running = mesh.stub.InferStream(wish(50), metadata=callers["blue"])
        await anext(aiter(running))
        status = await status_of(mesh.stub.InferStream(wish(50), metadata=callers["blue"]))
        running.cancel()
    trailers = tuple(status.trailing_metadata())
    details = {}
    for packed in status_pb2.Status.FromString(bytes_of(trailers, STATUS_DETAILS) or b"").details:
        details[packed.type_url.rpartition(".")[2]] = packed.value
    quota = error_details_pb2.QuotaFailure.FromString(details["QuotaFailure"])
    hint = error_details_pb2.RetryInfo.FromString(details["RetryInfo"]).retry_delay
    standing = limit_standing.decode(value_of(trailers, LIMITS))[0]
    assert isinstance(error_from_rpc(status), QuotaError)
    assert status.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert quota.violations[0].subject == standing.name == f"tenant:blue:{kind}"
    assert hint.ToNanoseconds() > 0
    assert int(value_of(trailers, RETRY_PUSHBACK) or 0) > 0
    assert standing.kind == kind
    assert worker.stats.started == 1


async def test_the_limits_stand_in_the_metadata_of_a_call_that_was_let_in(tmp_path: Path) -> None:
    callers = write_callers(tmp_path, {"name": "blue", "limits": {"requests_per_second": 1, "burst": 5}})
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path, [entry("one", one)], **callers.settings) as mesh,
    ):
        call = mesh.stub.Infer(prompt("one"), metadata=callers["blue"])
        standings = limit_standing.decode(value_of(await call.initial_metadata(), LIMITS))
        await call
    assert [(one.name, one.limit, int(one.remaining)) for one in standings] == [
        ("tenant:blue:requests", 5, 4)
    ]


async def test_a_tenants_list_filters_what_it_sees_and_a_forbidden_model_reads_as_unknown(
    tmp_path: Path,
) -> None:
    callers = write_callers(
        tmp_path, {"name": "blue", "models": ["open-*"]}, {"name": "green"}, {"name": "red"}
    )
    async with running_worker("one") as one:
        models = [entry("open-1", one), entry("secret", one), entry("greens", one, tenants=["green"])]
        async with running_gateway(tmp_path, models, **callers.settings) as mesh:
            listed = {}
            for tenant in ("blue", "green", "red"):
                answer = await mesh.stub.ListModels(
                    inference_pb2.ListModelsRequest(), metadata=callers[tenant]
                )
                listed[tenant] = {model.name for model in answer.models}
            forbidden, unknown = [
                await status_of(mesh.stub.Infer(prompt(name), metadata=callers["blue"]))
                for name in ("secret", "absent")
            ]
            greens = await status_of(mesh.stub.Infer(prompt("greens"), metadata=callers["red"]))
    assert listed == {
        "blue": {"open-1"},
        "green": {"open-1", "secret", "greens"},
        "red": {"open-1", "secret"},
    }
    assert isinstance(error_from_rpc(forbidden), ModelNotFoundError)
    assert isinstance(error_from_rpc(greens), ModelNotFoundError)
    assert (forbidden.details() or "").replace("secret", "absent") == unknown.details()
    assert one.calls == 0


async def test_no_header_of_a_client_changes_who_it_is_or_what_it_may(tmp_path: Path) -> None:
    callers, log = write_callers(tmp_path, {"name": "blue"}, {"name": "green"}), tmp_path / "usage.jsonl"
    forged = (
        ("x-mesh-tenant", "green"),
        ("x-mesh-model", "two"),
        ("x-mesh-version", "9"),
        ("x-mesh-priority", "high"),
        ("x-mesh-token-budget", "999999"),
        ("x-mesh-max-tokens", "999999"),
        ("x-tenant", "green"),
        ("x-user", "root"),
    )
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path, [entry("one", one)], usage_log=log, **callers.settings) as mesh,
    ):
        plain = facts(await mesh.stub.Infer(prompt("one"), metadata=callers["blue"]))["metadata"]
        seen = facts(await mesh.stub.Infer(prompt("one"), metadata=(*callers["blue"], *forged)))["metadata"]
        answer = await explained(mesh, "one", (*callers["blue"], *forged))
    mine = {key: value for key, value in seen.items() if key.startswith("x-mesh-")}
    assert mine == {key: value for key, value in plain.items() if key.startswith("x-mesh-")}
    assert (answer.tenant, answer.priority) == ("blue", "normal")
    assert [record["tenant"] for record in records_of(log)] == ["blue", "blue"]


async def test_explain_tells_the_target_and_every_limit_and_consumes_nothing(tmp_path: Path) -> None:
    limits = {
        "requests_per_second": 0.01,
        "burst": 3,
        "concurrency": 2,
        "tokens": {"amount": 100, "per": "day"},
    }
    callers = write_callers(tmp_path, {"name": "blue", "priority": "high", "limits": limits})
    async with paced_worker("chat") as worker:
        models = [paced("chat", worker, aliases=["talk"], fallback=["spare"]), paced("spare", worker)]
        async with running_gateway(tmp_path, models, **callers.settings) as mesh:
            payload = wish(30).payload
            answers = [await explained(mesh, "talk", callers["blue"], payload=payload) for _ in range(10)]
            running = await streamed(mesh.stub.InferStream(wish(30), metadata=callers["blue"]))
            after = await explained(mesh, "talk", callers["blue"], payload=wish(300).payload)
            for _ in range(2):
                await streamed(mesh.stub.InferStream(wish(1), metadata=callers["blue"]))
            refused = await explained(mesh, "talk", callers["blue"], payload=payload)
            status = await status_of(mesh.stub.InferStream(wish(1), metadata=callers["blue"]))
            unknown = await explained(mesh, "absent", callers["blue"])
    last = answers[-1]
    left = {limit.kind: limit.remaining for limit in last.limits}
    assert running == "OK"
    assert (last.target.model, last.rule, list(last.fallback)) == ("chat", "alias", ["spare"])
    assert (last.tenant, last.priority, last.completion_tokens) == ("blue", "high", 30)
    assert left == {"requests": 3, "concurrency": 2, "tokens": 100}
    assert [replica.available for replica in last.replicas] == [True]
    assert not last.HasField("refusal")
    assert after.completion_tokens == 100 - 31 - after.prompt_tokens
    assert refused.refusal.reason == error_from_rpc(status).reason
    assert refused.refusal.code == status.code().name
    assert refused.refusal.retry_after_s > 0
    assert (unknown.refusal.code, unknown.target.model) == ("NOT_FOUND", "")
    assert worker.stats.started == 3


async def test_the_decision_stands_in_the_trailers_of_every_call_and_in_a_streams_head(
    tmp_path: Path,
) -> None:
    callers = write_callers(tmp_path, {"name": "blue", "limits": {"requests_per_second": 0.01, "burst": 2}})
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path, [entry("one", one, aliases=["uno"])], **callers.settings) as mesh,
    ):
        call = mesh.stub.Infer(prompt("uno"), metadata=callers["blue"])
        await call
        unary = value_of(await call.trailing_metadata(), DECISION) or ""
        stream = mesh.stub.InferStream(stream_prompt("one", "tokens=2"), metadata=callers["blue"])
        head = value_of(await stream.initial_metadata(), DECISION) or ""
        await streamed(stream)
        status = await status_of(mesh.stub.Infer(prompt("one"), metadata=callers["blue"]))
        refused = value_of(tuple(status.trailing_metadata()), DECISION) or ""
    told = dict(part.split("=") for part in unary.split(";"))
    assert (told["model"], told["rule"], told["endpoint"]) == ("one", "alias", one.target)
    assert head.startswith("model=one;rule=name;")
    assert refused.startswith("model=one;rule=name;")
    assert "endpoint" not in refused
