from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from inference_mesh.errors import (
    MeshError,
    OverloadedError,
    PayloadMismatchError,
    UnauthenticatedError,
    all_error_classes,
    http_status,
)
from inference_mesh.v1 import inference_pb2
from tests.fakes.fake_gateway import last_piece, never, piece
from tests.support.bridge import RunningBridge, post, raw_connection, running_bridge

CHAT = {"model": "chat", "payload": {"prompt": "Once"}}


@pytest.fixture
async def bridge() -> AsyncIterator[RunningBridge]:
    async with running_bridge() as running:
        yield running


def events(text: str) -> list[str]:
    assert text.endswith("\n\n")
    return text.removesuffix("\n\n").split("\n\n")


def make_error(error_class: type[MeshError]) -> MeshError:
    error = error_class.__new__(error_class)
    MeshError.__init__(error, "said by the gateway")
    return error


async def test_an_answer_has_id_model_version_output_usage_and_timing(bridge: RunningBridge) -> None:
    answer = await bridge.infer(CHAT | {"id": "mine", "version": "7"})
    assert answer.status_code == 200
    assert answer.json() == {
        "id": "mine",
        "model": "chat",
        "version": "7",
        "output": {"text": "Once", "finish_reason": "stop"},
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "cached_tokens": 0},
        "timing": {"queue_s": 0.001, "compute_s": 0.25, "first_token_s": 0.05},
    }
    assert "server" not in answer.headers
    assert answer.headers["date"]


@pytest.mark.parametrize(
    ("model", "payload", "output"),
    [
        ("chat", "Once", {"text": "Once", "finish_reason": "stop"}),
        ("embed", {"texts": ["a", "b"]}, {"embeddings": [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]}),
        ("rerank", {"query": "q", "documents": ["a"]}, {"documents": [{"index": 0, "score": 0.0}]}),
        ("classify", {"text": "a"}, {"results": [[{"label": "good", "score": 0.5}]]}),
        (
            "tensors",
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2.5]}]},
            {"outputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2.5]}]},
        ),
        ("json", {"any": [1, None, "thing"]}, {"any": [1, None, "thing"]}),
    ],
)
async def test_the_form_of_payload_and_output_follows_from_the_task(
    bridge: RunningBridge, model: str, payload: Any, output: Any
) -> None:
    answer = await bridge.infer({"model": model, "payload": payload})
    assert answer.status_code == 200, answer.text
    assert answer.json()["output"] == output


async def test_many_embeddings_are_answered_whole(bridge: RunningBridge) -> None:
    texts = ["text"] * 20_000
    answer = await bridge.infer({"model": "embed", "payload": {"texts": texts}})
    assert len(answer.json()["output"]["embeddings"]) == len(texts)


@pytest.mark.parametrize("error_class", all_error_classes(), ids=lambda found: found.__name__)
async def test_every_error_of_the_gateway_has_its_http_status_and_form(
    bridge: RunningBridge, error_class: type[MeshError]
) -> None:
    error = make_error(error_class)

    async def fail(_: inference_pb2.InferRequest) -> inference_pb2.InferResponse:
        raise error

    bridge.gateway.infer_script = fail
    answer = await bridge.infer(CHAT, x_request_id="r-1")
    assert answer.status_code == http_status(error)
    body = answer.json()["error"]
    assert body["code"] == error.code.name
    assert body["request_id"] == "r-1"


async def test_a_retry_hint_is_in_the_body_and_in_retry_after(bridge: RunningBridge) -> None:
    async def shed(_: inference_pb2.InferRequest) -> inference_pb2.InferResponse:
        raise OverloadedError("full", retry_after_s=1.25)

    bridge.gateway.infer_script = shed
    answer = await bridge.infer(CHAT)
    assert answer.status_code == 429
    assert answer.json()["error"]["retry_after_s"] == 1.25
    assert answer.headers["retry-after"] == "2"


async def test_a_gateway_that_is_gone_is_503_at_once_with_a_hint_and_no_addresses(
    bridge: RunningBridge,
) -> None:
    assert (await bridge.infer(CHAT)).status_code == 200
    await bridge.gateway.stop()
    started = asyncio.get_running_loop().time()
    answer = await bridge.infer(CHAT)
    assert asyncio.get_running_loop().time() - started < 1.0
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert "127.0.0.1" not in answer.text


async def test_an_unknown_model_is_404(bridge: RunningBridge) -> None:
    answer = await bridge.infer({"model": "nobody", "payload": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")


async def test_a_stream_is_events_then_usage_then_done(bridge: RunningBridge) -> None:
    answer = await bridge.infer(CHAT | {"stream": True, "id": "mine"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    *parts, done = events(answer.text)
    assert done == "data: [DONE]"
    documents = [json.loads(part.removeprefix("data: ")) for part in parts]
    assert documents[0] == {"id": "mine", "model": "chat", "version": "1", "output": {"text": "Once"}}
    assert documents[1] == {"output": {"text": " upon"}}
    assert documents[2]["output"]["finish_reason"] == "stop"
    assert documents[2]["usage"]["completion_tokens"] == 2
    assert documents[2]["timing"]["compute_s"] == 0.25


async def test_pieces_leave_as_they_come(bridge: RunningBridge) -> None:
    gate = asyncio.Event()

    async def script(_: Any) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        yield piece("first", model="chat")
        await gate.wait()
        yield last_piece("second")

    bridge.gateway.stream_script = script
    async with bridge.http.stream("POST", "/api/infer", json=CHAT | {"stream": True}) as answer:
        chunks = answer.aiter_text()
        assert "first" in await anext(chunks)
        gate.set()
        assert "second" in "".join([chunk async for chunk in chunks])


async def test_an_error_before_the_first_piece_is_a_plain_answer(bridge: RunningBridge) -> None:
    async def script(_: Any) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        raise UnauthenticatedError
        yield

    bridge.gateway.stream_script = script
    answer = await bridge.infer(CHAT | {"stream": True})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "UNAUTHENTICATED"


async def test_an_error_after_the_first_piece_is_an_error_event_and_no_done(bridge: RunningBridge) -> None:
    async def script(_: Any) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        yield piece("first", model="chat")
        raise OverloadedError("full", retry_after_s=2.0)

    bridge.gateway.stream_script = script
    answer = await bridge.infer(CHAT | {"stream": True}, x_request_id="r-2")
    assert answer.status_code == 200
    last = events(answer.text)[-1].split("\n")
    assert last[0] == "event: error"
    error = json.loads(last[1].removeprefix("data: "))["error"]
    assert (error["code"], error["request_id"], error["retry_after_s"]) == ("RESOURCE_EXHAUSTED", "r-2", 2.0)


async def test_a_stream_that_ends_without_usage_is_an_error_and_not_done(bridge: RunningBridge) -> None:
    async def script(_: Any) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        yield piece("looks complete", model="chat")

    bridge.gateway.stream_script = script
    answer = await bridge.infer(CHAT | {"stream": True})
    assert "event: error" in answer.text
    assert "[DONE]" not in answer.text


async def test_a_gateway_that_dies_in_a_stream_ends_it_with_an_error_event(bridge: RunningBridge) -> None:
    async def script(_: Any) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        yield piece("first", model="chat")
        await asyncio.Event().wait()

    bridge.gateway.stream_script = script
    async with bridge.http.stream("POST", "/api/infer", json=CHAT | {"stream": True}) as answer:
        chunks = answer.aiter_text()
        await anext(chunks)
        await bridge.gateway.stop()
        text = "".join([chunk async for chunk in chunks])
    assert "event: error" in text
    assert "UNAVAILABLE" in text


async def leave(bridge: RunningBridge, document: dict[str, Any], first: bytes) -> float:
    """Seconds from the close of the client's connection to the cancel in the gateway."""
    async with raw_connection(bridge.service.port) as connection:
        body = json.dumps(document).encode()
        await connection.send(post(body, f"content-length: {len(body)}"))
        await asyncio.wait_for(bridge.gateway.arrived.wait(), 5)
        if first:
            await connection.reader.readuntil(first)
        left = asyncio.get_running_loop().time()
    await asyncio.wait_for(bridge.gateway.cancelled.wait(), 5)
    return bridge.gateway.cancelled_at - left


async def test_a_client_that_leaves_cancels_the_unary_call(bridge: RunningBridge) -> None:
    assert (await bridge.infer(CHAT)).status_code == 200
    bridge.gateway.arrived.clear()
    bridge.gateway.infer_script = never
    assert await leave(bridge, CHAT, b"") < 0.2


async def test_a_client_that_leaves_cancels_the_stream_before_its_first_piece(bridge: RunningBridge) -> None:
    assert (await bridge.infer(CHAT)).status_code == 200
    bridge.gateway.arrived.clear()

    async def script(_: Any) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        await asyncio.Event().wait()
        yield piece("")

    bridge.gateway.stream_script = script
    assert await leave(bridge, CHAT | {"stream": True}, b"") < 0.2


async def test_a_client_that_leaves_cancels_the_stream_in_its_middle(bridge: RunningBridge) -> None:
    async def script(_: Any) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        yield piece("first", model="chat")
        await asyncio.Event().wait()

    bridge.gateway.stream_script = script
    assert await leave(bridge, CHAT | {"stream": True}, b"first") < 0.2


async def test_only_credentials_request_id_and_trace_pass_to_the_gateway(bridge: RunningBridge) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await bridge.infer(
        CHAT,
        authorization="Bearer mesh_a_b",
        x_api_key="mesh_c_d",
        x_request_id="r-3",
        traceparent=trace,
        tracestate="vendor=1",
        x_mesh_tenant="admin",
        x_mesh_max_tokens="99999",
        grpc_timeout="1n",
        x_forwarded_for="10.0.0.1",
        cookie="secret",
        x_bin="AAAA",
    )
    passed = {name: value for name, value in bridge.gateway.metadata.items() if name != "user-agent"}
    assert passed == {
        "authorization": "Bearer mesh_a_b",
        "x-api-key": "mesh_c_d",
        "x-request-id": "r-3",
        "traceparent": trace,
        "tracestate": "vendor=1",
    }


async def test_a_credential_that_metadata_cannot_carry_is_unauthenticated(bridge: RunningBridge) -> None:
    headers = [(b"authorization", "Bearer mésh".encode("latin-1"))]
    answer = await bridge.http.post("/api/infer", json=CHAT, headers=headers)
    assert answer.status_code == 401


async def test_the_request_id_is_echoed_made_or_refused(bridge: RunningBridge) -> None:
    assert (await bridge.infer(CHAT, x_request_id="r-4")).headers["x-request-id"] == "r-4"
    made = await bridge.infer(CHAT)
    assert made.headers["x-request-id"] == made.json()["id"]
    assert bridge.gateway.metadata["x-request-id"] == made.json()["id"]
    refused = await bridge.infer(CHAT, x_request_id="a b")
    assert refused.status_code == 400
    assert refused.headers["x-request-id"] == refused.json()["error"]["request_id"] != "a b"


async def test_an_id_in_the_body_wins_over_the_header(bridge: RunningBridge) -> None:
    answer = await bridge.infer(CHAT | {"id": "body"}, x_request_id="header")
    assert answer.json()["id"] == answer.headers["x-request-id"] == "body"
    assert bridge.gateway.metadata["x-request-id"] == "body"


async def test_the_timeout_of_the_caller_is_the_deadline_of_the_call(bridge: RunningBridge) -> None:
    await bridge.infer(CHAT)
    assert bridge.gateway.time_remaining is not None
    assert 290 < bridge.gateway.time_remaining <= 301  # gRPC rounds such a long one up to whole seconds
    bridge.gateway.infer_script = never
    answer = await bridge.infer(CHAT, x_request_timeout="0.2")
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("script", ["infer_script", "stream_script"])
async def test_a_deadline_that_the_bridge_sees_itself_is_told_in_our_words(
    bridge: RunningBridge, script: str
) -> None:
    async def one_piece(_: inference_pb2.InferStreamRequest) -> AsyncIterator[Any]:
        yield piece("Once")
        await never(None)

    setattr(bridge.gateway, script, never if script == "infer_script" else one_piece)
    document = CHAT | {"stream": script == "stream_script"}
    answer = await bridge.infer(document, x_request_timeout="0.2")
    assert "DEADLINE_EXCEEDED" in answer.text
    assert "Deadline Exceeded" not in answer.text  # grpc's, which may name its own streams beside it


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "x", "1e9", ""])
async def test_a_timeout_that_is_none_is_400(bridge: RunningBridge, value: str) -> None:
    assert (await bridge.infer(CHAT, x_request_timeout=value)).status_code == 400


async def test_the_task_is_asked_once_for_each_caller(bridge: RunningBridge) -> None:
    for _ in range(3):
        await bridge.infer(CHAT, x_api_key="one")
    assert bridge.gateway.get_model_calls == 1
    await bridge.infer(CHAT, x_api_key="two")
    assert bridge.gateway.get_model_calls == 2


async def test_the_task_is_asked_again_after_a_payload_of_the_wrong_kind(bridge: RunningBridge) -> None:
    async def mismatch(_: inference_pb2.InferRequest) -> inference_pb2.InferResponse:
        raise PayloadMismatchError("it is another model now")

    await bridge.infer(CHAT)
    bridge.gateway.infer_script = mismatch
    assert (await bridge.infer(CHAT)).status_code == 400
    await bridge.infer(CHAT)
    assert bridge.gateway.get_model_calls == 2


async def test_models_are_listed_and_described(bridge: RunningBridge) -> None:
    listed = (await bridge.http.get("/api/models")).json()["models"]
    assert [model["name"] for model in listed][:2] == ["chat", "embed"]
    one = (await bridge.http.get("/api/models/embed")).json()
    assert one == {
        "name": "embed",
        "version": "2",
        "task": "embed",
        "aliases": [],
        "ready": True,
        "runtime": "onnxruntime",
        "dimensions": 4,
    }
    tensors = (await bridge.http.get("/api/models/tensors")).json()
    assert tensors["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    assert (await bridge.http.get("/api/models/nobody")).status_code == 404


async def test_a_slow_reader_holds_back_the_stream_and_no_memory(bridge: RunningBridge) -> None:
    async def script(_: Any) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        while True:
            yield piece("x" * 16_384, model="chat")

    bridge.gateway.stream_script = script
    async with raw_connection(bridge.service.port) as connection:
        body = json.dumps(CHAT | {"stream": True}).encode()
        await connection.send(post(body, f"content-length: {len(body)}"))
        sent = -1
        while sent != bridge.gateway.sent_pieces:
            sent = bridge.gateway.sent_pieces
            await asyncio.sleep(0.5)
        # The kernel's buffers hold about 4 MiB on loopback; gRPC's window and ours little more.
        assert sent * 16_384 < 6 * 1024 * 1024
    await asyncio.wait_for(bridge.gateway.cancelled.wait(), 5)


async def test_a_client_uses_one_connection_for_many_requests(bridge: RunningBridge) -> None:
    for _ in range(5):
        assert (await bridge.infer(CHAT)).status_code == 200
    assert bridge.service.http.open_connections == 1
