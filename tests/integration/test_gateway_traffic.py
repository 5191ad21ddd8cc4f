"""Fallback, canary and shadow over the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from inference_mesh.error_status import error_from_rpc
from inference_mesh.errors import (
    InputTooLongError,
    MeshError,
    ModelNotFoundError,
    OverloadedError,
    StreamBrokenError,
    UnavailableError,
)
from inference_mesh.metadata import DECISION, value_of
from inference_mesh.v1 import admin_pb2, payload_pb2
from tests.fakes.refusing_worker import RefusingWorker
from tests.support.callers import ADMIN, admin_stub, write_callers
from tests.support.gateways import (
    entry,
    facts,
    prompt,
    running_gateway,
    running_worker,
    status_of,
    stream_prompt,
)

NOWHERE = "127.0.0.1:9"
SESSION = "x-session-id"


@contextlib.asynccontextmanager
async def refusing_worker(name: str, error: MeshError) -> AsyncIterator[RefusingWorker]:
    worker = RefusingWorker(name, error)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


async def until(ask: Callable[[], Awaitable[Any]], is_right: Callable[[Any], bool]) -> Any:
    """What `ask` says once it is right."""
    async with asyncio.timeout(10):
        while not is_right(found := await ask()):
            await asyncio.sleep(0.05)
    return found


async def answered_by(mesh: Any, model: str, metadata: tuple[tuple[str, str], ...] = ()) -> str:
    label: str = facts(await mesh.stub.Infer(prompt(model), metadata=metadata))["worker"]
    return label


# Fallback


async def test_another_model_answers_if_no_replica_can(tmp_path: Path) -> None:
    async with running_worker("small") as small:
        models = [entry("big", NOWHERE, fallback=["small"]), entry("small", small)]
        async with running_gateway(tmp_path, models) as mesh:
            call = mesh.stub.Infer(prompt("big"))
            answer = await call
            decision = value_of(await call.trailing_metadata(), DECISION) or ""
            pieces = [piece async for piece in mesh.stub.InferStream(stream_prompt("big", "tokens=3"))]
    assert facts(answer)["metadata"]["x-mesh-model"] == "small"
    assert {"model=small", "rule=fallback", "fallback_from=big"} <= set(decision.split(";"))
    assert len(pieces) == 4


@pytest.mark.parametrize("error", [InputTooLongError("too long"), OverloadedError("full", retry_after_s=1.0)])
async def test_another_model_answers_what_is_too_long_or_too_much_for_the_first(
    tmp_path: Path, error: MeshError
) -> None:
    async with refusing_worker("big", error) as big, running_worker("small") as small:
        models = [entry("big", big, fallback=["small"]), entry("small", small)]
        async with running_gateway(tmp_path, models) as mesh:
            assert await answered_by(mesh, "big") == "small"
    assert big.calls >= 1


async def test_another_model_answers_when_the_first_ones_queue_is_full(tmp_path: Path) -> None:
    async with running_worker("big") as big, running_worker("small") as small:
        queue = {"in_flight_per_replica": 1, "size": 0}
        models = [entry("big", big, fallback=["small"], queue=queue), entry("small", small)]
        async with running_gateway(tmp_path, models) as mesh:
            first = mesh.stub.InferStream(stream_prompt("big", "tokens=1000 gap=0.1"))
            await anext(aiter(first))
            second = await answered_by(mesh, "big")
            first.cancel()
    assert second == "small"


async def test_nobody_is_asked_after_the_first_byte_nor_for_a_callers_own_mistake(tmp_path: Path) -> None:
    async with running_worker("big") as big, running_worker("small") as small:
        models = [entry("big", big, fallback=["small"], resume=False), entry("small", small)]
        async with running_gateway(tmp_path, models) as mesh:
            broken = await status_of(mesh.stub.InferStream(stream_prompt("big", "tokens=5 break=2")))
            wrong = await status_of(mesh.stub.Infer(prompt("big", "status=INVALID_ARGUMENT")))
            decision = value_of(tuple(wrong.trailing_metadata()), DECISION) or ""
    assert isinstance(error_from_rpc(broken), StreamBrokenError)
    assert wrong.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "fallback" not in decision
    assert small.calls == 0


async def test_if_all_fail_the_first_failure_is_told(tmp_path: Path) -> None:
    async with refusing_worker("big", InputTooLongError("too long")) as big:
        models = [entry("big", big, fallback=["small"]), entry("small", NOWHERE)]
        async with running_gateway(tmp_path, models) as mesh:
            too_long = await status_of(mesh.stub.Infer(prompt("big")))
        models = [entry("big", NOWHERE, fallback=["small"]), entry("small", big)]
        async with running_gateway(tmp_path, models) as mesh:
            gone = await status_of(mesh.stub.Infer(prompt("big")))
            decision = value_of(tuple(gone.trailing_metadata()), DECISION) or ""
    assert isinstance(error_from_rpc(too_long), InputTooLongError)
    assert isinstance(error_from_rpc(gone), UnavailableError)
    assert decision.startswith("model=big;")


async def test_no_fallback_leads_to_a_model_that_the_tenant_may_not_use(tmp_path: Path) -> None:
    callers = write_callers(tmp_path, {"name": "blue", "models": ["big"]})
    async with running_worker("small") as small:
        models = [entry("big", NOWHERE, fallback=["small"]), entry("small", small)]
        async with running_gateway(tmp_path, models, **callers.settings) as mesh:
            status = await status_of(mesh.stub.Infer(prompt("big"), metadata=callers["blue"]))
    assert status.code() is grpc.StatusCode.UNAVAILABLE
    assert small.calls == 0


# Canary


def versions(one: Any, two: Any, *, weights: tuple[float, float] = (1, 0), **fields: Any) -> dict[str, Any]:
    targets = [getattr(worker, "target", worker) for worker in (one, two)]
    listed = [
        {"version": str(number), "endpoints": [target], "weight": weight}
        for number, target, weight in zip((1, 2), targets, weights, strict=True)
    ]
    return {"name": "chat", "versions": listed, **fields}


def canary(weight: float, **fields: Any) -> dict[str, Any]:
    return {"version": "2", "steps": [{"weight": weight, "for_s": 600}], **fields}


@contextlib.asynccontextmanager
async def two_versions() -> AsyncIterator[tuple[Any, Any]]:
    async with running_worker("chat", label="v1") as one, running_worker("chat", label="v2") as two:
        yield one, two


async def test_versions_and_canaries_get_their_share(tmp_path: Path) -> None:
    seen = {}
    async with two_versions() as (one, two):
        shares = {
            "weights": versions(one, two, weights=(3, 1)),
            "canary": versions(one, two, canary=canary(25)),
        }
        for name, model in shares.items():
            async with running_gateway(tmp_path, [model]) as mesh:
                calls = [answered_by(mesh, "chat") for _ in range(400)]
                seen[name] = Counter(await asyncio.gather(*calls))["v2"]
    # Six standard deviations of 400 draws at a quarter.
    assert all(48 < count < 152 for count in seen.values()), seen


async def test_a_session_stays_with_its_version_and_a_version_that_is_asked_for_is_taken(
    tmp_path: Path,
) -> None:
    async with two_versions() as (one, two):
        model = versions(one, two, canary=canary(50, sticky=f"header:{SESSION}"))
        async with running_gateway(tmp_path, [model]) as mesh:
            homes = {}
            for session in map(str, range(30)):
                metadata = ((SESSION, session),)
                homes[session] = {await answered_by(mesh, "chat", metadata) for _ in range(4)}
            asked = {facts(await mesh.stub.Infer(prompt("chat", version="2")))["worker"] for _ in range(8)}
    assert all(len(home) == 1 for home in homes.values())
    assert set.union(*homes.values()) == {"v1", "v2"}
    assert asked == {"v2"}


async def test_no_choice_falls_on_a_version_without_a_ready_replica(tmp_path: Path) -> None:
    async with running_worker("chat", label="v1") as one:
        for model in (
            versions(one, NOWHERE, weights=(1, 100)),
            versions(one, NOWHERE, canary=canary(99)),
            versions(NOWHERE, one, canary=canary(1)),
        ):
            async with running_gateway(tmp_path, [model]) as mesh:
                assert {await answered_by(mesh, "chat") for _ in range(20)} == {"v1"}


async def test_operators_promote_and_abort_a_canary_and_nobody_else(tmp_path: Path) -> None:
    async with two_versions() as (one, two):
        model = versions(one, two, canary=canary(50))
        callers = write_callers(tmp_path, {"name": "blue"})
        async with running_gateway(tmp_path, [model], **callers.settings) as mesh:
            stub = admin_stub(mesh)
            requests = [
                stub.ListCanaries(admin_pb2.ListCanariesRequest(), metadata=callers["blue"]),
                stub.PromoteCanary(admin_pb2.PromoteCanaryRequest(model="chat"), metadata=callers["blue"]),
                stub.AbortCanary(admin_pb2.AbortCanaryRequest(model="chat"), metadata=callers["blue"]),
                stub.GetShadowReport(
                    admin_pb2.GetShadowReportRequest(model="chat"), metadata=callers["blue"]
                ),
            ]
            codes = {(await status_of(call)).code().name for call in requests}
            anyone = await status_of(stub.ListCanaries(admin_pb2.ListCanariesRequest()))
        admin = write_callers(tmp_path, {"name": "ops"}, scopes=ADMIN)
        async with running_gateway(tmp_path, [model], **admin.settings) as mesh:
            stub, who = admin_stub(mesh), admin["ops"]
            listed = (await stub.ListCanaries(admin_pb2.ListCanariesRequest(), metadata=who)).canaries
            promoted = await stub.PromoteCanary(admin_pb2.PromoteCanaryRequest(model="chat"), metadata=who)
            after_promote = {await answered_by(mesh, "chat", who) for _ in range(20)}
            aborted = await stub.AbortCanary(admin_pb2.AbortCanaryRequest(model="chat"), metadata=who)
            after_abort = {await answered_by(mesh, "chat", who) for _ in range(20)}
            absent = await status_of(
                stub.AbortCanary(admin_pb2.AbortCanaryRequest(model="absent"), metadata=who)
            )
    assert codes == {"PERMISSION_DENIED"}
    assert anyone.code() is grpc.StatusCode.UNAUTHENTICATED
    assert [(one.model, one.version, one.stable_version, one.weight) for one in listed] == [
        ("chat", "2", "1", 50)
    ]
    assert promoted.canary.phase == admin_pb2.CANARY_PHASE_PROMOTED
    assert after_promote == {"v2"}
    assert aborted.canary.phase == admin_pb2.CANARY_PHASE_ROLLED_BACK
    assert after_abort == {"v1"}
    assert isinstance(error_from_rpc(absent), ModelNotFoundError)


async def test_a_canary_whose_worker_fails_is_rolled_back(tmp_path: Path) -> None:
    admin = write_callers(tmp_path, {"name": "ops"}, scopes=ADMIN)
    async with two_versions() as (one, two):
        model = versions(one, two, canary=canary(50, guards={"min_samples": 5}))
        async with running_gateway(tmp_path, [model], **admin.settings) as mesh:
            who = admin["ops"]

            async def state() -> admin_pb2.Canary:
                request = prompt("chat", "status=INTERNAL only=v2")
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await mesh.stub.Infer(request, metadata=who)
                listed = await admin_stub(mesh).ListCanaries(admin_pb2.ListCanariesRequest(), metadata=who)
                found: admin_pb2.Canary = listed.canaries[0]
                return found

            ended = await until(state, lambda seen: seen.phase != admin_pb2.CANARY_PHASE_RUNNING)
            after = {await answered_by(mesh, "chat", who) for _ in range(20)}
    assert ended.phase == admin_pb2.CANARY_PHASE_ROLLED_BACK
    assert "error ratio" in ended.reason
    assert after == {"v1"}


# Shadow


async def report_of(mesh: Any, who: tuple[tuple[str, str], ...]) -> admin_pb2.GetShadowReportResponse:
    request = admin_pb2.GetShadowReportRequest(model="chat")
    report: admin_pb2.GetShadowReportResponse = await admin_stub(mesh).GetShadowReport(request, metadata=who)
    return report


async def test_a_shadow_is_compared_with_and_not_billed(tmp_path: Path) -> None:
    budget = {"name": "ops", "limits": {"requests_per_second": 0.01, "burst": 2}}
    admin, log = write_callers(tmp_path, budget, scopes=ADMIN), tmp_path / "usage.jsonl"
    async with running_worker("chat") as chat, running_worker("next") as following:
        models = [entry("chat", chat, shadow={"model": "next", "share": 1}), entry("next", following)]
        async with running_gateway(tmp_path, models, usage_log=log, **admin.settings) as mesh:
            who = admin["ops"]
            streamed = [
                piece
                async for piece in mesh.stub.InferStream(stream_prompt("chat", "tokens=4"), metadata=who)
            ]
            answer = await mesh.stub.Infer(prompt("chat", request_id="mine"), metadata=who)
            report = await until(lambda: report_of(mesh, who), lambda seen: seen.compared == 2)
    assert [piece.output.generate.text for piece in streamed] == ["0 ", "1 ", "2 ", "3 ", ""]
    assert facts(answer)["worker"] == "chat"
    assert (report.primary.model, report.shadow.model) == ("chat", "next")
    assert (report.agreed, report.failed, report.dropped) == (1, 0, 0)
    assert [(one.request_id, one.measure) for one in report.differences] == [("mine", "json_equal")]
    assert (chat.calls, following.calls) == (2, 2)
    assert [json.loads(line)["model"] for line in log.read_text().splitlines()] == ["chat", "chat"]


async def test_a_caller_does_not_see_that_the_shadow_fails_or_hangs(tmp_path: Path) -> None:
    admin = write_callers(tmp_path, {"name": "ops"}, scopes=ADMIN)
    async with running_worker("chat") as chat, running_worker("next") as following:
        models = [
            entry("chat", chat, shadow={"model": "next", "share": 1, "max_in_flight": 1}),
            entry("next", following),
        ]
        async with running_gateway(tmp_path, models, **admin.settings) as mesh:
            who = admin["ops"]
            await mesh.stub.Infer(prompt("chat", "status=INTERNAL only=next"), metadata=who)
            await until(lambda: report_of(mesh, who), lambda seen: seen.failed == 1)
            hung = stream_prompt("chat", "tokens=2 hang=0 only=next")
            async with asyncio.timeout(5):
                answers = [[piece async for piece in mesh.stub.InferStream(hung, metadata=who)] for _ in "ab"]
            report = await report_of(mesh, who)
    assert [len(answer) for answer in answers] == [3, 3]
    assert answers[0][0].output.generate.finish_reason == payload_pb2.FINISH_REASON_UNSPECIFIED
    assert (report.compared, report.dropped) == (0, 1)
