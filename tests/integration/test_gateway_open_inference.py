"""What the gateway says of itself and of models by the Open Inference Protocol, beside inference."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import pytest

from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.oip import open_inference_pb2_grpc
from tests.fakes.fake_worker import FakeWorker
from tests.integration.test_gateway_records import asked, cached_model
from tests.integration.test_worker_host import running_host
from tests.support.callers import write_callers
from tests.support.gateways import (
    RunningGateway,
    entry,
    prompt,
    running_gateway,
    running_worker,
    status_of,
    stream_prompt,
    write_models,
)


def stub_of(running: RunningGateway) -> Any:
    """A client of GRPCInferenceService."""
    return open_inference_pb2_grpc.GRPCInferenceServiceStub(running.channel)


async def statistics(running: RunningGateway, *args: Any, **fields: Any) -> list[oip.ModelStatistics]:
    """What is counted of the models that are asked for."""
    request = oip.ModelStatisticsRequest(**fields)
    return list((await stub_of(running).ModelStatistics(request, *args)).model_stats)


def two_versions(one: FakeWorker, two: FakeWorker) -> list[dict[str, Any]]:
    """The versions 1 and 2 of a model; callers who name none get the first."""
    return [
        {"version": "1", "weight": 1, "endpoints": [one.target]},
        {"version": "2", "endpoints": [two.target]},
    ]


async def test_the_server_names_its_version_and_what_it_speaks(tmp_path: Path) -> None:
    async with (
        running_worker("chat") as worker,
        running_gateway(tmp_path, [entry("chat", worker)]) as running,
    ):
        found = await stub_of(running).ServerMetadata(oip.ServerMetadataRequest())
    assert (found.name, found.version) == ("inference-mesh", version("inference-mesh"))
    assert set(found.extensions) == {"model_configuration", "model_repository", "parameters", "statistics"}


async def test_a_configuration_is_what_the_worker_says_of_itself(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    async with running_host(tmp_path / "host", "iris") as host:
        target = f"127.0.0.1:{host.service.grpc_port}"
        async with running_gateway(tmp_path, [entry("iris", target, aliases=["flowers"])]) as running:
            answer = await stub_of(running).ModelConfig(oip.ModelConfigRequest(name="flowers"))
    config = answer.config
    assert (config.name, config.platform, config.backend) == ("iris", "onnxruntime_onnx", "onnxruntime")
    assert [(one.name, one.data_type, list(one.dims)) for one in config.input] == [
        ("features", oip.TYPE_FP32, [-1, 4])
    ]
    assert {one.name: one.data_type for one in config.output} == {
        "label": oip.TYPE_INT64,
        "probabilities": oip.TYPE_FP32,
    }
    assert (config.max_batch_size, config.parameters["task"].string_value) == (0, "tensors")


async def test_calls_are_counted_by_how_they_ended(tmp_path: Path) -> None:
    began_ms = int(time.time() * 1e3)
    async with (
        running_worker("chat") as worker,
        running_gateway(tmp_path, [entry("chat", worker)]) as running,
    ):
        await running.stub.Infer(prompt("chat", "delay=0.05"))
        async for _ in running.stub.InferStream(stream_prompt("chat", "pieces=2")):
            pass
        await stub_of(running).ModelInfer(oip.ModelInferRequest(model_name="chat"))
        await status_of(running.stub.Infer(prompt("chat", "status=INVALID_ARGUMENT")))
        await stub_of(running).ModelMetadata(oip.ModelMetadataRequest(name="chat"))
        (found,) = await statistics(running, name="chat")
    times = found.inference_stats
    assert (times.success.count, times.fail.count) == (3, 1)
    assert 50_000_000 <= times.success.ns < 10_000_000_000
    assert times.queue.ns + times.compute_infer.ns == pytest.approx(times.success.ns, abs=10)
    assert (found.inference_count, found.execution_count) == (3, 3)
    assert began_ms <= found.last_inference <= int(time.time() * 1e3)


async def test_a_wait_in_the_queue_is_told_apart(tmp_path: Path) -> None:
    async with running_worker("chat") as worker:
        model = entry("chat", worker, queue={"in_flight_per_replica": 1})
        async with running_gateway(tmp_path, [model]) as running:
            await running.wait_until_ready("chat", worker)
            both = [running.stub.Infer(prompt("chat", "delay=0.2")) for _ in range(2)]
            for call in both:
                await call
            (found,) = await statistics(running, name="chat")
    assert found.inference_stats.queue.count == 2
    assert 100_000_000 < found.inference_stats.queue.ns < found.inference_stats.success.ns


async def test_a_kept_answer_is_a_cache_hit(tmp_path: Path) -> None:
    async with cached_model() as (_, model), running_gateway(tmp_path, [model]) as running:
        heads = [(await asked(running, ()))[0] for _ in range(2)]
        (found,) = await statistics(running)
    assert heads == ["miss", "hit"]
    times = found.inference_stats
    assert (times.success.count, times.cache_miss.count, times.cache_hit.count) == (2, 1, 1)
    assert found.inference_count == 1


async def test_a_call_that_another_model_took_over_is_a_failure_of_the_first(tmp_path: Path) -> None:
    async with running_worker("main") as main, running_worker("spare") as spare:
        models = [entry("main", main, fallback=["spare"]), entry("spare", spare)]
        async with running_gateway(tmp_path, models) as running:
            await running.wait_until_ready("main", main)
            await running.wait_until_ready("spare", spare)
            await running.stub.Infer(prompt("main", "only=main status=UNAVAILABLE"))
            found = {one.name: one.inference_stats for one in await statistics(running)}
    assert (found["main"].success.count, found["main"].fail.count) == (0, 1)
    assert (found["spare"].success.count, found["spare"].fail.count) == (1, 0)


async def test_every_version_is_told_unless_one_is_asked_for(tmp_path: Path) -> None:
    async with running_worker("chat", label="a") as one, running_worker("chat", label="b") as two:
        model = {"name": "chat", "versions": two_versions(one, two)}
        async with running_gateway(tmp_path, [model]) as running:
            await running.stub.Infer(prompt("chat", version="2"))
            every = await statistics(running, name="chat")
            assert [(found.version, found.inference_count) for found in every] == [("1", 0), ("2", 1)]
            (second,) = await statistics(running, name="chat", version="2")
            assert second == every[1]
            config = await stub_of(running).ModelConfig(oip.ModelConfigRequest(name="chat", version="1"))
            assert list(config.config.version_policy.specific.versions) == [1, 2]


async def test_metadata_and_index_have_every_version_whichever_replica_answers(tmp_path: Path) -> None:
    async with running_worker("chat") as one, running_worker("chat") as two:
        model = {"name": "chat", "versions": two_versions(one, two)}
        async with running_gateway(tmp_path, [model]) as running:
            stub = stub_of(running)
            for asked_for in ("", "1", "2"):
                request = oip.ModelMetadataRequest(name="chat", version=asked_for)
                assert list((await stub.ModelMetadata(request)).versions) == ["1", "2"]
            index = await stub.RepositoryIndex(oip.RepositoryIndexRequest())
    assert [(one.name, one.version, one.state) for one in index.models] == [
        ("chat", "1", "READY"),
        ("chat", "2", "READY"),
    ]


async def test_a_model_that_left_the_registry_and_came_back_begins_at_zero(tmp_path: Path) -> None:
    async with running_worker("chat") as chat, running_worker("other") as other:
        async with running_gateway(tmp_path, [entry("chat", chat), entry("other", other)]) as running:
            await running.stub.Infer(prompt("chat"))
            await running.stub.Infer(prompt("other"))
            await _with_models(running, entry("other", other))
            await _with_models(running, entry("chat", chat), entry("other", other))
            found = {one.name: one.inference_count for one in await statistics(running)}
    assert found == {"chat": 0, "other": 1}


async def _with_models(running: RunningGateway, *models: dict[str, Any]) -> None:
    """Have the gateway read a registry of these models."""
    write_models(running.models_file, models)
    wanted = [model["name"] for model in models]
    async with asyncio.timeout(10):
        while [one.name for one in await statistics(running)] != wanted:
            await asyncio.sleep(0.02)


async def test_a_tenant_sees_nothing_of_models_that_it_may_not_use(tmp_path: Path) -> None:
    callers = write_callers(tmp_path, {"name": "blue", "models": ["blue-*"]}, {"name": "red"})
    async with running_worker("blue-chat") as blue, running_worker("red-chat") as red:
        models = [entry("blue-chat", blue), entry("red-chat", red)]
        async with running_gateway(tmp_path, models, auth="required", **callers.settings) as running:
            stub, key = stub_of(running), callers["blue"]
            own = await stub.ModelStatistics(oip.ModelStatisticsRequest(), metadata=key)
            assert [one.name for one in own.model_stats] == ["blue-chat"]
            every = await stub.ModelStatistics(oip.ModelStatisticsRequest(), metadata=callers["red"])
            assert [one.name for one in every.model_stats] == ["blue-chat", "red-chat"]
            hidden = oip.ModelMetadataRequest(name="red-chat")
            told = await status_of(stub.ModelMetadata(hidden, metadata=key))
            for method, request in (
                (stub.ModelConfig, oip.ModelConfigRequest(name="red-chat")),
                (stub.ModelStatistics, oip.ModelStatisticsRequest(name="red-chat")),
                (stub.ModelStatistics, oip.ModelStatisticsRequest(name="red-chat", version="1")),
            ):
                refused = await status_of(method(request, metadata=key))
                assert (refused.code(), refused.details()) == (told.code(), told.details())
            assert told.code() is grpc.StatusCode.NOT_FOUND
            nobody = await status_of(stub.ModelStatistics(oip.ModelStatisticsRequest()))
            assert nobody.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_what_cannot_be_told_is_refused_with_its_status(tmp_path: Path) -> None:
    models = [entry("gone", "127.0.0.1:1"), entry("page", "127.0.0.1:1", path="/infer")]
    async with running_gateway(tmp_path, models) as running:
        stub = stub_of(running)
        for method, request, code in (
            (stub.ModelConfig, oip.ModelConfigRequest(name="nobody"), grpc.StatusCode.NOT_FOUND),
            (stub.ModelConfig, oip.ModelConfigRequest(), grpc.StatusCode.INVALID_ARGUMENT),
            (stub.ModelConfig, oip.ModelConfigRequest(name="gone"), grpc.StatusCode.UNAVAILABLE),
            (stub.ModelConfig, oip.ModelConfigRequest(name="page"), grpc.StatusCode.UNIMPLEMENTED),
            (stub.ModelStatistics, oip.ModelStatisticsRequest(name="nobody"), grpc.StatusCode.NOT_FOUND),
            (stub.ModelStatistics, oip.ModelStatisticsRequest(version="1"), grpc.StatusCode.INVALID_ARGUMENT),
        ):
            assert (await status_of(method(request))).code() is code, request
        raw: Any = running.channel.unary_unary("/inference.GRPCInferenceService/ModelConfig")
        assert (await status_of(raw(b"\xff"))).code() is grpc.StatusCode.INVALID_ARGUMENT
        raw = running.channel.unary_unary("/inference.GRPCInferenceService/ModelStatistics")
        assert (await status_of(raw(b"\xff"))).code() is grpc.StatusCode.INVALID_ARGUMENT
