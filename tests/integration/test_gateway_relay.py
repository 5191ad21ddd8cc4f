"""What passes through the gateway between a client and a worker."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from prometheus_client import CollectorRegistry

from gateway.call import Call
from gateway.policy.facts import Admit, Caller
from gateway.upstream.attempts import RetryBudgets
from gateway.upstream.fleet import GrpcModel
from gateway.upstream.metrics import UpstreamMetrics
from gateway.upstream.pool import grpc_pool
from gateway.upstream.relay import Relay
from gateway.upstream.worker_connections import WorkerConnections
from inference_mesh.background import Background
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.error_status import error_from_rpc
from inference_mesh.errors import (
    InvalidInputError,
    RequestTooLargeError,
    StreamBrokenError,
    UnavailableError,
)
from inference_mesh.metadata import DECISION, PROMPT_TOKENS, USAGE, bytes_of, value_of
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.oip import open_inference_pb2_grpc as oip_grpc
from inference_mesh.v1 import inference_pb2
from tests.support.gateways import (
    entry,
    facts,
    prompt,
    running_gateway,
    running_worker,
    status_of,
    stream_prompt,
)
from tests.support.upstreams import Client


async def read_all(call: Any, received: list[Any]) -> None:
    while (message := await call.read()) is not grpc.aio.EOF:
        received.append(message)


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_the_registry_says_which_worker_answers_a_model_and_its_alias(tmp_path: Path) -> None:
    async with running_worker("one") as one, running_worker("two") as two:
        models = [entry("one", one, aliases=["uno"]), entry("two", two)]
        async with running_gateway(tmp_path, models) as mesh:
            answers = [facts(await mesh.stub.Infer(prompt(name))) for name in ("one", "uno", "two")]
    assert [answer["worker"] for answer in answers] == ["one", "one", "two"]
    assert answers[1]["metadata"]["x-mesh-model"] == "one"


async def test_an_unknown_model_is_not_found_and_is_no_label_of_a_metric(tmp_path: Path) -> None:
    async with running_worker("one") as one, running_gateway(tmp_path, [entry("one", one)]) as mesh:
        status = await status_of(mesh.stub.Infer(prompt("nobody-has-this")))
        assert status.code() is grpc.StatusCode.NOT_FOUND
        assert (
            mesh.metric("mesh_gateway_requests_total", model="unknown", method="Infer", code="NOT_FOUND") == 1
        )


async def test_a_client_cannot_send_what_only_the_policy_may_say(tmp_path: Path) -> None:
    sent = (
        ("x-mesh-tenant", "forged"),
        ("x-mesh-max-tokens", "9"),
        ("authorization", "Bearer mesh_secret"),
        ("x-api-key", "mesh_secret"),
        ("cookie", "a=b"),
        ("junk-bin", b"\x00\x01"),
        ("x-team", "blue"),
    )
    async with running_worker("one") as one, running_gateway(tmp_path, [entry("one", one)]) as mesh:
        seen = facts(await mesh.stub.Infer(prompt("one"), metadata=sent))["metadata"]
    assert seen["x-team"] == "blue"
    assert seen["x-mesh-tenant"] != "forged"
    assert not {"x-mesh-max-tokens", "authorization", "x-api-key", "cookie", "junk-bin"} & seen.keys()


async def test_trace_and_request_id_reach_the_worker(tmp_path: Path) -> None:
    async with running_worker("one") as one, running_gateway(tmp_path, [entry("one", one)]) as mesh:
        sent = (("traceparent", TRACE), ("x-request-id", "from-metadata"))
        by_metadata = facts(await mesh.stub.Infer(prompt("one"), metadata=sent))["metadata"]
        by_message = facts(await mesh.stub.Infer(prompt("one", request_id="from-message")))["metadata"]
    assert by_metadata["traceparent"].split("-")[1] == TRACE.split("-")[1]
    assert by_metadata["x-request-id"] == "from-metadata"
    assert by_message["x-request-id"] == "from-message"


async def test_the_worker_gets_less_time_than_the_client_gave(tmp_path: Path) -> None:
    async with running_worker("one") as one:
        async with running_gateway(tmp_path, [entry("one", one, timeout_s=20)]) as mesh:
            given = facts(await mesh.stub.Infer(prompt("one"), timeout=5))["time_remaining_s"]
            by_registry = facts(await mesh.stub.Infer(prompt("one")))["time_remaining_s"]
    assert 3 < given < 5
    assert 15 < by_registry < 20


async def test_a_deadline_that_passes_is_deadline_exceeded(tmp_path: Path) -> None:
    async with running_worker("one") as one:
        async with running_gateway(tmp_path, [entry("one", one, timeout_s=0.2)]) as mesh:
            status = await status_of(mesh.stub.Infer(prompt("one", "delay=30")))
            assert status.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            async with asyncio.timeout(5):
                await one.cancelled.wait()


@pytest.mark.parametrize("method", ["Infer", "InferStream"])
async def test_a_client_who_leaves_stops_the_worker(tmp_path: Path, method: str) -> None:
    async with running_worker("one") as one, running_gateway(tmp_path, [entry("one", one)]) as mesh:
        make = prompt if method == "Infer" else stream_prompt
        call = getattr(mesh.stub, method)(make("one", "delay=30"), timeout=30)
        waiting = asyncio.ensure_future(call.read() if method == "InferStream" else call.code())
        async with asyncio.timeout(5):
            while one.running == 0:
                await asyncio.sleep(0.01)
            call.cancel()
            await one.cancelled.wait()
        waiting.cancel()


async def test_metadata_of_the_worker_reaches_the_client(tmp_path: Path) -> None:
    async with running_worker("one") as one, running_gateway(tmp_path, [entry("one", one)]) as mesh:
        call = mesh.stub.Infer(prompt("one"))
        await call
        initial, trailers = await call.initial_metadata(), tuple(await call.trailing_metadata())
    assert value_of(tuple(initial), PROMPT_TOKENS) == "3"
    assert bytes_of(trailers, USAGE) == b"\x08\x03"
    assert value_of(trailers, DECISION) == f"model=one;rule=name;wait_ms=0;endpoint={one.target};attempts=1"


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"])
async def test_the_status_of_the_worker_passes_unchanged_and_is_not_retried(
    tmp_path: Path, code: str
) -> None:
    async with running_worker("one") as one, running_gateway(tmp_path, [entry("one", one)]) as mesh:
        for call in (
            mesh.stub.Infer(prompt("one", f"status={code}")),
            mesh.stub.InferStream(stream_prompt("one", f"status={code}")),
        ):
            status = await status_of(call)
            assert (status.code().name, status.details()) == (code, "as you wish")
            assert bytes_of(tuple(status.trailing_metadata()), USAGE) == b"\x08\x04"
    assert one.calls == 2


async def test_a_stream_arrives_piece_by_piece(tmp_path: Path) -> None:
    async with running_worker("one") as one, running_gateway(tmp_path, [entry("one", one)]) as mesh:
        call = mesh.stub.InferStream(stream_prompt("one", "pieces=5 gap=0.1"))
        arrivals = [time.monotonic() async for _ in call]
        trailers = tuple(await call.trailing_metadata())
    assert len(arrivals) == 6
    assert arrivals[-1] - arrivals[0] > 0.4
    assert value_of(trailers, "x-mesh-delivered") == "6"


async def test_a_stream_whose_worker_dies_ends_typed_and_says_what_was_delivered(tmp_path: Path) -> None:
    async with running_worker("one") as one, running_gateway(tmp_path, [entry("one", one)]) as mesh:
        call = mesh.stub.InferStream(stream_prompt("one", "pieces=100 gap=0.05"))
        received = [await call.read(), await call.read()]
        await one.stop()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_all(call, received)
    assert isinstance(error_from_rpc(caught.value), StreamBrokenError)
    delivered = value_of(tuple(caught.value.trailing_metadata()), "x-mesh-delivered")
    assert delivered == str(len(received))


@pytest.mark.parametrize("junk", [b"\xff\xff", b"\x0a\x7fabc", b"\x0a\x02\xff\xfe", b"\x00\x00"])
async def test_bytes_that_are_no_request_are_invalid_argument(tmp_path: Path, junk: bytes) -> None:
    paths = ("inference_mesh.v1.InferenceService/Infer", "inference.GRPCInferenceService/ModelInfer")
    more = ("inference_mesh.v1.InferenceService/GetModel", "grpc.health.v1.Health/Check")
    async with running_worker("one") as one, running_gateway(tmp_path, [entry("one", one)]) as mesh:
        for path in (*paths, *more):
            method: Any = mesh.channel.unary_unary(f"/{path}")
            status = await status_of(method(junk))
            assert isinstance(error_from_rpc(status), InvalidInputError), path
        stream: Any = mesh.channel.unary_stream("/inference_mesh.v1.InferenceService/InferStream")
        assert isinstance(error_from_rpc(await status_of(stream(junk))), InvalidInputError)


async def test_a_message_over_the_limit_is_resource_exhausted(tmp_path: Path) -> None:
    async with running_worker("one") as one:
        async with running_gateway(tmp_path, [entry("one", one)], max_message_bytes=4096) as mesh:
            for size in (5_000, 200_000):
                status = await status_of(mesh.stub.Infer(prompt("one", "x" * size)))
                assert status.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert one.calls == 0


async def test_the_open_inference_protocol_passes(tmp_path: Path) -> None:
    async with running_worker("one") as one:
        async with running_gateway(tmp_path, [entry("one", one, aliases=["uno"])]) as mesh:
            stub: Any = oip_grpc.GRPCInferenceServiceStub(mesh.channel)
            assert (await stub.ServerLive(oip.ServerLiveRequest())).live
            assert (await stub.ServerReady(oip.ServerReadyRequest())).ready
            assert (await stub.ModelReady(oip.ModelReadyRequest(name="uno"))).ready
            assert (await stub.ServerMetadata(oip.ServerMetadataRequest())).name == "inference-mesh"
            assert (await stub.ModelMetadata(oip.ModelMetadataRequest(name="uno"))).platform == "fake"
            answer = await stub.ModelInfer(oip.ModelInferRequest(model_name="uno", id="7"))
            status = await status_of(stub.ModelReady(oip.ModelReadyRequest(name="none")))
    assert answer.id == "7"
    assert status.code() is grpc.StatusCode.NOT_FOUND


async def test_a_stream_of_requests_is_answered_in_turn_and_stays_with_its_model(tmp_path: Path) -> None:
    async with running_worker("one") as one, running_gateway(tmp_path, [entry("one", one)]) as mesh:
        stub: Any = oip_grpc.GRPCInferenceServiceStub(mesh.channel)
        call = stub.ModelStreamInfer()
        for number in range(20):
            await call.write(oip.ModelInferRequest(model_name="one", id=str(number)))
            assert (await call.read()).infer_response.id == str(number)
        await call.write(oip.ModelInferRequest(model_name="other"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_later_request_of_a_stream_has_the_same_size_limit(tmp_path: Path) -> None:
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path, [entry("one", one)], max_message_bytes=1 << 20) as mesh,
    ):
        call = oip_grpc.GRPCInferenceServiceStub(mesh.channel).ModelStreamInfer()
        await call.write(oip.ModelInferRequest(model_name="one"))
        await call.read()
        large = [bytes((1 << 20) + 1000)]
        await call.write(oip.ModelInferRequest(model_name="one", raw_input_contents=large))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(call.read(), 5)
    assert isinstance(error_from_rpc(caught.value), RequestTooLargeError)
    assert one.calls == 1


async def test_a_stream_of_requests_ends_well(tmp_path: Path) -> None:
    async with running_worker("one") as one, running_gateway(tmp_path, [entry("one", one)]) as mesh:
        stub: Any = oip_grpc.GRPCInferenceServiceStub(mesh.channel)
        requests = [oip.ModelInferRequest(model_name="one", id=str(number)) for number in range(50)]
        answers = [answer.infer_response.id async for answer in stub.ModelStreamInfer(iter(requests))]
    assert answers == [request.id for request in requests]


async def test_models_are_listed_with_what_their_worker_says(tmp_path: Path) -> None:
    async with running_worker("b-model") as worker:
        models = [entry("b-model", worker, aliases=["b"]), entry("a-model", "127.0.0.1:9", task="rerank")]
        async with running_gateway(tmp_path, models) as mesh:
            listed = (await mesh.stub.ListModels(inference_pb2.ListModelsRequest())).models
            one = (await mesh.stub.GetModel(inference_pb2.GetModelRequest(model="b"))).model
    assert [(model.name, model.ready) for model in listed] == [("a-model", False), ("b-model", True)]
    assert (listed[0].task, listed[1].dimensions, listed[1].version) == (3, 384, "7")
    assert one == listed[1]


async def test_a_stream_of_requests_moves_to_another_worker_before_its_first_answer(tmp_path: Path) -> None:
    async with running_worker("one", label="a") as first, running_worker("one", label="b") as second:
        async with running_gateway(tmp_path, [entry("one", first, second)]) as mesh:
            await mesh.wait_until_ready("one", first, second)
            stub: Any = oip_grpc.GRPCInferenceServiceStub(mesh.channel)
            for number in range(30):
                call = stub.ModelStreamInfer()
                await call.write(oip.ModelInferRequest(model_name="one", id="refused by a"))
                assert (await call.read()).infer_response.model_version == "b", number
                await call.done_writing()
                assert await call.read() is grpc.aio.EOF
    assert first.calls > 0


async def test_a_client_who_does_not_read_holds_the_worker_no_longer_than_the_call_may_last(
    tmp_path: Path,
) -> None:
    async with running_worker("one") as one:
        async with running_gateway(tmp_path, [entry("one", one, timeout_s=0.5)]) as mesh:
            call = mesh.stub.InferStream(stream_prompt("one", "pieces=100000 size=10000"))
            await call.read()
            async with asyncio.timeout(5):
                while mesh.metric("mesh_gateway_in_flight", model="one"):
                    await asyncio.sleep(0.02)
            counted = {"model": "one", "method": "InferStream", "code": "DEADLINE_EXCEEDED"}
            assert mesh.metric("mesh_gateway_requests_total", **counted) == 1
            call.cancel()


async def test_a_client_who_leaves_while_it_is_written_to_is_no_fault_of_ours(tmp_path: Path) -> None:
    async with running_worker("one") as one, running_gateway(tmp_path, [entry("one", one)]) as mesh:
        call = mesh.stub.InferStream(stream_prompt("one", "pieces=100000 size=10000"))
        await call.read()
        sent = 0
        async with asyncio.timeout(10):
            while not one.sent or one.sent > sent:  # until every buffer on the way is full
                sent = one.sent
                await asyncio.sleep(0.2)
        call.cancel()
        async with asyncio.timeout(5):
            while mesh.metric("mesh_gateway_in_flight", model="one"):
                await asyncio.sleep(0.02)
        counted = {"model": "one", "method": "InferStream", "code": "CANCELLED"}
        assert mesh.metric("mesh_gateway_requests_total", **counted) == 1


@pytest.mark.parametrize("reads_first", [False, True])
async def test_a_connection_that_the_gateway_closes_ends_its_calls_typed(reads_first: bool) -> None:
    """A removed replica's connection is closed after the longest drain, with calls on it or not."""
    metrics, background = UpstreamMetrics(CollectorRegistry()), Background()
    await background.open()
    async with running_worker("one") as one:
        pool = grpc_pool("one", WorkerConnections(), background, metrics, lambda: None)
        await pool.set_addresses([one.target])
        model = GrpcModel(ModelEntry(name="one", endpoints=(one.target,)), pool)
        context = Client()
        call = Call("InferStream", cast("Any", context), (), time.monotonic(), None)
        call.admission = Admit(Caller(), model.entry, "")
        relay = Relay(metrics, RetryBudgets(), random.Random(1))
        commands = "pieces=2 gap=20" if reads_first else "delay=20"
        message = stream_prompt("one", commands).SerializeToString()
        path = "/inference_mesh.v1.InferenceService/InferStream"
        running = asyncio.ensure_future(relay.server_stream(call, model, path, message))
        async with asyncio.timeout(5):
            while one.running == 0 or len(context.written) < reads_first:
                await asyncio.sleep(0.01)
        await pool.close_now()
        with pytest.raises(StreamBrokenError if reads_first else UnavailableError):
            await asyncio.wait_for(running, 5)
    await background.close()
