"""The server around an engine: native calls, metadata, health, plain HTTP, drain."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from inference_mesh import load_report, metadata
from inference_mesh.error_status import error_from_rpc
from inference_mesh.errors import (
    InvalidInputError,
    MeshError,
    ModelNotFoundError,
    ModelNotReadyError,
    OverloadedError,
)
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2
from tests.fakes.echo_engine import EchoEngine
from tests.support.processes import metric_sum
from tests.support.workers import ServedWorker, served_worker

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
async def engine() -> EchoEngine:
    return EchoEngine()


@pytest.fixture
async def worker(engine: EchoEngine) -> AsyncIterator[ServedWorker]:
    async with served_worker(engine) as served:
        yield served


def _payload(prompt: str) -> payload_pb2.Payload:
    return payload_pb2.Payload(generate=payload_pb2.Generate(prompt=prompt))


def _request(prompt: str, model: str = "echo", **fields: Any) -> inference_pb2.InferRequest:
    return inference_pb2.InferRequest(model=model, payload=_payload(prompt), **fields)


def _stub(worker: ServedWorker) -> Any:
    return inference_pb2_grpc.InferenceServiceStub(worker.channel)


async def _error_of(call: Any) -> MeshError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value)


async def test_a_whole_answer_has_text_usage_timing_and_the_callers_id(worker: ServedWorker) -> None:
    answer = await _stub(worker).Infer(_request("one two", request_id="mine"))
    assert (answer.model, answer.version, answer.request_id) == ("echo", "3", "mine")
    assert answer.output.generate.text == "one two "
    assert list(answer.output.generate.tokens) == [4, 4]
    assert answer.output.generate.finish_reason == payload_pb2.FINISH_REASON_STOP
    assert (answer.usage.prompt_tokens, answer.timing.compute_s) == (2, 0.5)


async def test_a_stream_names_the_model_first_and_the_usage_last(worker: ServedWorker) -> None:
    call = _stub(worker).InferStream(
        inference_pb2.InferStreamRequest(model="echo", payload=_payload("one two"))
    )
    pieces = [piece async for piece in call]
    assert [piece.model for piece in pieces] == ["echo", "", ""]
    assert [piece.HasField("usage") for piece in pieces] == [False, False, True]
    assert "".join(piece.output.generate.text for piece in pieces) == "one two "


async def test_prompt_tokens_come_first_and_usage_and_load_last(worker: ServedWorker) -> None:
    call = _stub(worker).InferStream(
        inference_pb2.InferStreamRequest(model="echo", payload=_payload("one two"))
    )
    assert metadata.value_of(tuple(await call.initial_metadata()), metadata.PROMPT_TOKENS) == "2"
    _ = [piece async for piece in call]
    trailers = tuple(await call.trailing_metadata())
    usage = payload_pb2.Usage.FromString(metadata.bytes_of(trailers, metadata.USAGE) or b"")
    report = load_report.decode(metadata.bytes_of(trailers, metadata.LOAD_REPORT) or b"")
    assert (usage.prompt_tokens, usage.completion_tokens) == (2, 2)
    assert report is not None
    assert (report.queued, report.kv_utilization) == (2, 0.25)


async def test_what_the_gateway_decided_reaches_the_engine(worker: ServedWorker, engine: EchoEngine) -> None:
    decided = (("x-mesh-max-tokens", "7"), ("x-mesh-tenant", "salt"), ("x-mesh-model", "echo"))
    await _stub(worker).Infer(_request("hi", model="an-alias"), metadata=decided, timeout=5)
    request = engine.requests[0]
    assert (request.max_tokens_limit, request.tenant) == (7, "salt")
    assert request.deadline is not None
    assert request.deadline <= asyncio.get_running_loop().time() + 5.1


@pytest.mark.parametrize(
    ("request_", "sent", "expected"),
    [
        (_request("hi", model="other"), (), ModelNotFoundError),
        (_request("hi", model=""), (), InvalidInputError),
        (_request("hi", version="9"), (), ModelNotFoundError),
        (_request(""), (), InvalidInputError),
        (inference_pb2.InferRequest(model="echo"), (), InvalidInputError),
        (_request("hi", request_id="a b"), (), InvalidInputError),
        (_request("hi"), (("x-mesh-max-tokens", "many"),), InvalidInputError),
        (_request("overload"), (), OverloadedError),
    ],
)
async def test_a_wrong_call_gets_its_own_error(
    worker: ServedWorker, request_: inference_pb2.InferRequest, sent: Any, expected: type[MeshError]
) -> None:
    assert type(await _error_of(_stub(worker).Infer(request_, metadata=sent))) is expected


async def test_a_refusal_for_load_carries_the_load_report_too(worker: ServedWorker) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _stub(worker).Infer(_request("overload"))
    assert metadata.bytes_of(tuple(caught.value.trailing_metadata() or ()), metadata.LOAD_REPORT)


@pytest.mark.parametrize("method", ["Infer", "InferStream", "GetModel"])
async def test_malformed_protobuf_is_invalid_argument_without_class_names(
    worker: ServedWorker, method: str
) -> None:
    method_call: Any = worker.channel.unary_stream(f"/inference_mesh.v1.InferenceService/{method}")
    error = await _error_of(_all(method_call(b"\xff\xff")))
    assert type(error) is InvalidInputError
    assert "class" not in error.message


async def test_an_exception_of_the_engine_shows_nothing_of_itself(worker: ServedWorker) -> None:
    error = await _error_of(_stub(worker).Infer(_request("explode")))
    assert (error.code, error.message) == (grpc.StatusCode.INTERNAL, "internal error")


async def test_a_cancelled_stream_frees_the_engine_at_once(worker: ServedWorker, engine: EchoEngine) -> None:
    call = _stub(worker).InferStream(
        inference_pb2.InferStreamRequest(model="echo", payload=_payload("forever"))
    )
    await call.read()
    call.cancel()
    await asyncio.wait_for(engine.released.wait(), 0.2)


async def test_a_deadline_frees_the_engine(worker: ServedWorker, engine: EchoEngine) -> None:
    error = await _error_of(_stub(worker).Infer(_request("forever"), timeout=0.1))
    assert error.code == grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(engine.released.wait(), 0.2)


async def test_health_follows_the_model_and_ends_watches_at_a_stop(worker: ServedWorker) -> None:
    health: Any = health_pb2_grpc.HealthStub(worker.channel)
    for service in ("", "echo", "inference_mesh.v1.InferenceService"):
        assert (await health.Check(health_pb2.HealthCheckRequest(service=service))).status == SERVING
    watch = health.Watch(health_pb2.HealthCheckRequest(service="echo"))
    assert (await watch.read()).status == SERVING
    await worker.service.drain()
    assert (await watch.read()).status == NOT_SERVING
    assert (await asyncio.to_thread(httpx.get, f"{worker.url}/readyz")).status_code == 503
    await asyncio.wait_for(worker.service.stop(10), 2)


async def test_reflection_names_every_service(worker: ServedWorker) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(worker.channel)  # type: ignore[arg-type]
    answers = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    services = [
        service.name for answer in [await answers.read()] for service in answer.list_services_response.service
    ]
    assert {
        "inference_mesh.v1.InferenceService",
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
    } <= set(services)


async def test_a_model_that_does_not_load_leaves_a_process_that_says_why() -> None:
    async with served_worker(EchoEngine(is_loadable=False)) as worker:
        error = await _error_of(_stub(worker).Infer(_request("hi")))
        assert (type(error), error.message) == (ModelNotReadyError, "the file is truncated")
        health: Any = health_pb2_grpc.HealthStub(worker.channel)
        for service in ("", "echo"):
            assert (await health.Check(health_pb2.HealthCheckRequest(service=service))).status == NOT_SERVING
        async with httpx.AsyncClient(base_url=worker.url) as http:
            ready = await http.get("/readyz")
            assert (ready.status_code, ready.json()["detail"]["reason"]) == (503, "the file is truncated")
            assert (await http.get("/healthz")).status_code == 200


async def test_plain_http_answers_the_output_and_counts_it(worker: ServedWorker) -> None:
    async with httpx.AsyncClient(base_url=worker.url) as http:
        answer = await http.post("/infer", json="one two", headers={"x-request-id": "mine"})
        assert answer.json() == {"text": "one two ", "finish_reason": "stop"}
        assert answer.headers["x-request-id"] == "mine"
        page = (await http.get("/metrics")).text
    assert metric_sum(page, "mesh_worker_requests_total", protocol="http", code="OK") == 1
    assert metric_sum(page, "mesh_worker_tokens_total", kind="completion") == 2
    assert metric_sum(page, "mesh_worker_in_flight") == 0


async def test_plain_http_obeys_the_defaults_of_the_tenant(worker: ServedWorker, engine: EchoEngine) -> None:
    defaults = payload_pb2.Generate(max_tokens=7, sampling=payload_pb2.Sampling(temperature=0.25))
    padded = base64.b64encode(defaults.SerializeToString()).decode()
    body = {"prompt": "one two", "temperature": 0}
    async with httpx.AsyncClient(base_url=worker.url) as http:
        for text in (padded, padded.rstrip("=")):
            answer = await http.post("/infer", json=body, headers={metadata.DEFAULTS: text})
            assert answer.status_code == 200
            generate = engine.requests[-1].payload.generate
            assert (generate.max_tokens, generate.sampling.temperature) == (7, 0), "what is asked goes first"
        for text in ("!", base64.b64encode(b"\xff").decode()):
            answer = await http.post("/infer", json=body, headers={metadata.DEFAULTS: text})
            assert (answer.status_code, metadata.DEFAULTS in answer.text) == (400, True)


async def test_a_scrape_tells_the_load_of_its_moment_not_of_the_last_call(worker: ServedWorker) -> None:
    async with httpx.AsyncClient(base_url=worker.url) as http:
        page = (await http.get("/metrics")).text
    assert metric_sum(page, "mesh_worker_kv_cache_usage_ratio") == 0.25
    assert metric_sum(page, "mesh_worker_queue_depth") == 2
    assert metric_sum(page, "process_open_fds") > 0


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b'{"prompt": 5}', 400),
        (b'""', 400),
        (b'"overload"', 429),
        (b'"explode"', 500),
        (b"x" * 2**21, 413),
    ],
)
async def test_bad_http_input_gets_the_status_of_its_error(
    worker: ServedWorker, content: bytes, status: int
) -> None:
    async with httpx.AsyncClient(base_url=worker.url) as http:
        answer = await http.post("/infer", content=content)
    assert answer.status_code == status
    assert set(answer.json()["error"]) >= {"code", "message", "request_id"}
    assert "secret" not in answer.text


async def _all(call: Any) -> None:
    async for _ in call:
        pass
