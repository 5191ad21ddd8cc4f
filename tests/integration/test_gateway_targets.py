"""What becomes of a call, its limits and its canary when a target fails, hangs or disappears."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from inference_mesh.errors import UnavailableError
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.oip import open_inference_pb2_grpc as oip_grpc
from inference_mesh.v1 import admin_pb2
from tests.fakes.fake_worker import FakeWorker
from tests.fakes.refusing_worker import RefusingWorker
from tests.support.callers import ADMIN, admin_stub, explained, write_callers
from tests.support.gateways import (
    RunningGateway,
    entry,
    facts,
    prompt,
    running_gateway,
    running_worker,
    status_of,
    stream_prompt,
    write_models,
)

NOBODY = "127.0.0.1:9"
TOKENS = {"amount": 1000, "per": "day"}


class MuteWorker(FakeWorker):
    """Reports SERVING, takes calls, and never answers one."""

    async def Infer(self, request: Any, context: Any) -> Any:
        """Never."""
        self.calls += 1
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def unavailable_worker(name: str) -> AsyncIterator[RefusingWorker]:
    worker = RefusingWorker(name, UnavailableError("not now"))
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


async def outcome(call: Any) -> str:
    """The name of the code that a call ends with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def tokens_left(mesh: RunningGateway, model: str, metadata: Any) -> float:
    answer = await explained(mesh, model, metadata)
    return next(limit.remaining for limit in answer.limits if limit.kind == "tokens")


async def test_a_canary_is_rolled_back_though_another_model_answers_for_it(tmp_path: Path) -> None:
    canary = {
        "version": "2",
        "steps": [{"weight": 50, "for_s": 3600}],
        "guards": {"min_samples": 10, "error_ratio": 0.01},
    }
    callers = write_callers(tmp_path, {"name": "blue"}, scopes=ADMIN)
    async with (
        running_worker("chat") as stable,
        unavailable_worker("chat") as tried,
        running_worker("small") as small,
    ):
        versions = [
            {"version": "1", "endpoints": [stable.target], "weight": 1},
            {"version": "2", "endpoints": [tried.target]},
        ]
        chat = {"name": "chat", "versions": versions, "canary": canary, "fallback": ["small"]}
        async with running_gateway(tmp_path, [chat, entry("small", small)], **callers.settings) as mesh:
            async with asyncio.timeout(20):
                while True:
                    await mesh.stub.Infer(prompt("chat"), metadata=callers["blue"])
                    request = admin_pb2.ListCanariesRequest()
                    answer = await admin_stub(mesh).ListCanaries(request, metadata=callers["blue"])
                    if answer.canaries[0].phase == admin_pb2.CANARY_PHASE_ROLLED_BACK:
                        break
    assert tried.calls > 0


async def test_a_fallback_frees_the_limits_of_the_model_that_failed(tmp_path: Path) -> None:
    callers = write_callers(tmp_path, {"name": "blue"})
    limits = {"concurrency": 1, "tokens": TOKENS}
    async with running_worker("small") as small:
        models = [entry("big", NOBODY, fallback=["small"], limits=limits), entry("small", small)]
        async with running_gateway(tmp_path, models, **callers.settings) as mesh:
            first = mesh.stub.InferStream(
                stream_prompt("big", "tokens=500 gap=0.02"), metadata=callers["blue"]
            )
            await first.read()
            second = await mesh.stub.Infer(prompt("big"), metadata=callers["blue"])
            left = await tokens_left(mesh, "big", callers["blue"])
            first.cancel()
    assert facts(second)
    assert left == TOKENS["amount"]


async def test_no_other_model_answers_a_caller_who_asks_for_a_version(tmp_path: Path) -> None:
    async with running_worker("small") as small:
        big = {"name": "big", "versions": [{"version": "2", "endpoints": [NOBODY]}], "fallback": ["small"]}
        async with running_gateway(tmp_path, [big, entry("small", small)]) as mesh:
            assert await outcome(mesh.stub.Infer(prompt("big"))) == "OK"
            assert await outcome(mesh.stub.Infer(prompt("big", version="2"))) == "UNAVAILABLE"


async def test_calls_that_wait_go_to_the_version_that_replaces_theirs(tmp_path: Path) -> None:
    def models(version: str, worker: FakeWorker) -> list[dict[str, Any]]:
        versions = [{"version": version, "endpoints": [worker.target]}]
        return [{"name": "chat", "versions": versions, "queue": {"in_flight_per_replica": 1, "size": 100}}]

    async with running_worker("chat") as one, running_worker("chat") as two:
        async with running_gateway(tmp_path, models("1", one)) as mesh:
            waiting = [
                asyncio.ensure_future(outcome(mesh.stub.Infer(prompt("chat", "delay=0.3"), timeout=30)))
                for _ in range(10)
            ]
            async with asyncio.timeout(5):
                while not one.calls:
                    await asyncio.sleep(0.01)
            write_models(mesh.models_file, models("2", two))
            assert set(await asyncio.gather(*waiting)) == {"OK"}
    assert two.calls > 0


async def test_a_replica_that_takes_calls_and_says_nothing_is_ejected(tmp_path: Path) -> None:
    mute = MuteWorker("chat")
    await mute.start()
    async with (
        running_worker("chat") as good,
        running_gateway(tmp_path, [entry("chat", mute, good, timeout_s=1)]) as mesh,
    ):
        async with asyncio.timeout(20):
            while not mesh.metric("mesh_gateway_ejections_total", model="chat", endpoint=mute.target):
                await asyncio.gather(*(outcome(mesh.stub.Infer(prompt("chat", f"x={n}"))) for n in range(4)))
        calls = mute.calls
        assert [await outcome(mesh.stub.Infer(prompt("chat", f"y={n}"))) for n in range(8)] == ["OK"] * 8
        assert mute.calls == calls
    await mute.stop()


async def test_a_unary_call_that_runs_out_of_time_is_charged_its_prompt(tmp_path: Path) -> None:
    callers = write_callers(tmp_path, {"name": "blue", "limits": {"tokens": TOKENS}})
    async with (
        running_worker("chat") as worker,
        running_gateway(tmp_path, [entry("chat", worker)], **callers.settings) as mesh,
    ):
        late = mesh.stub.Infer(prompt("chat", "delay=5"), metadata=callers["blue"], timeout=0.5)
        assert (await status_of(late)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(5):
            while mesh.metric("mesh_gateway_in_flight", model="chat"):
                await asyncio.sleep(0.01)
        left = await tokens_left(mesh, "chat", callers["blue"])
    assert 0 < TOKENS["amount"] - left < 50  # type: ignore[operator]


async def test_the_models_own_time_limit_counts_for_who_may_wait(tmp_path: Path) -> None:
    queue = {"in_flight_per_replica": 1, "size": 100}
    async with (
        running_worker("chat") as worker,
        running_gateway(tmp_path, [entry("chat", worker, timeout_s=2, queue=queue)]) as mesh,
    ):
        for _ in range(3):
            await mesh.stub.Infer(prompt("chat", "delay=0.5"), timeout=300)
        calls = [outcome(mesh.stub.Infer(prompt("chat", "delay=0.5"), timeout=300)) for _ in range(20)]
        ends = await asyncio.gather(*calls)
    assert ends.count("RESOURCE_EXHAUSTED") >= 14  # 2 s hold four calls


async def test_a_token_budget_does_not_refuse_calls_whose_tokens_are_not_known(tmp_path: Path) -> None:
    callers = write_callers(tmp_path, {"name": "blue", "limits": {"tokens": TOKENS}})
    async with (
        running_worker("any") as one,
        running_worker("texts") as two,
        running_gateway(
            tmp_path, [entry("any", one), entry("texts", two, task="embed")], **callers.settings
        ) as mesh,
    ):
        stub: Any = oip_grpc.GRPCInferenceServiceStub(mesh.channel)
        for model in ("any", "texts"):
            request = oip.ModelInferRequest(model_name=model, id="1")
            await stub.ModelInfer(request, metadata=callers["blue"])
        too_long = oip.ModelInferRequest(model_name="texts", id="x" * 100, raw_input_contents=[b"y" * 1000])
        status = await status_of(stub.ModelInfer(too_long, metadata=callers["blue"]))
    assert status.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_stream_without_a_credential_ends_before_its_first_message(tmp_path: Path) -> None:
    callers = write_callers(tmp_path, {"name": "blue"})
    async with (
        running_worker("chat") as worker,
        running_gateway(tmp_path, [entry("chat", worker)], **callers.settings) as mesh,
    ):
        stub: Any = oip_grpc.GRPCInferenceServiceStub(mesh.channel)
        call = stub.ModelStreamInfer()
        async with asyncio.timeout(5):
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_calls_of_the_open_inference_protocol_are_shadowed(tmp_path: Path) -> None:
    async with running_worker("a") as one, running_worker("b") as two:
        models = [entry("a", one, shadow={"model": "b", "share": 1.0}), entry("b", two)]
        async with running_gateway(tmp_path, models) as mesh:
            stub: Any = oip_grpc.GRPCInferenceServiceStub(mesh.channel)
            await stub.ModelInfer(oip.ModelInferRequest(model_name="a", id="1"))
            async with asyncio.timeout(5):
                while not two.calls:
                    await asyncio.sleep(0.01)


async def test_a_copy_takes_no_callers_place(tmp_path: Path) -> None:
    async with running_worker("a") as one, running_worker("b") as two:
        queue = {"in_flight_per_replica": 1, "size": 0}
        models = [entry("a", one, shadow={"model": "b", "share": 1.0}), entry("b", two, queue=queue)]
        async with running_gateway(tmp_path, models) as mesh:
            copied = asyncio.ensure_future(outcome(mesh.stub.Infer(prompt("a", "delay=2"))))
            async with asyncio.timeout(5):
                while not two.calls:
                    await asyncio.sleep(0.01)
            assert await outcome(mesh.stub.Infer(prompt("b"))) == "OK"
            labels = {"model": "b", "priority": "bulk", "reason": "queue_full"}
            assert mesh.metric("mesh_gateway_queue_refusals_total", **labels) == 0
            copied.cancel()


async def test_a_model_that_is_no_more_leaves_no_series(tmp_path: Path) -> None:
    async with running_worker("old") as old, running_worker("new") as new:
        async with running_gateway(tmp_path, [entry("old", old)]) as mesh:
            assert await outcome(mesh.stub.Infer(prompt("old"))) == "OK"
            async for _ in mesh.stub.InferStream(stream_prompt("old", "tokens=2")):
                pass
            write_models(mesh.models_file, [entry("new", new)])
            async with asyncio.timeout(5):
                while await outcome(mesh.stub.Infer(prompt("new"))) != "OK":
                    await asyncio.sleep(0.05)
            labels = [
                sample.labels.get("model")
                for family in mesh.gateway.metrics.registry.collect()
                for sample in family.samples
            ]
    assert "new" in labels
    assert "old" not in labels


async def test_explain_promises_no_other_model_to_a_caller_who_asks_for_a_version(tmp_path: Path) -> None:
    async with running_worker("big") as big, running_worker("small") as small:
        versions = [{"version": "1", "endpoints": [big.target], "weight": 1}]
        models = [{"name": "big", "versions": versions, "fallback": ["small"]}, entry("small", small)]
        async with running_gateway(tmp_path, models) as mesh:
            assert (await explained(mesh, "big")).fallback == ["small"]
            assert not (await explained(mesh, "big", version="1")).fallback
