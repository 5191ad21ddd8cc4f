from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from inference_mesh.v1 import inference_pb2
from tests.fakes.fake_gateway import never, piece
from tests.support.bridge import RawConnection, RunningBridge, post, raw_connection, running_bridge

CHAT = {"model": "chat", "payload": {"prompt": "Once"}}
SHORT = {
    "header_timeout_s": 0.5,
    "keep_alive_s": 0.5,
    "write_timeout_s": 0.6,
    "body_timeout_s": 1.0,
    "body_idle_timeout_s": 0.4,
    "max_message_bytes": 64 * 1024,
}
GOOD = b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n"


@pytest.fixture
async def bridge() -> AsyncIterator[RunningBridge]:
    async with running_bridge(**SHORT) as running:
        yield running


@pytest.fixture
async def roomy_bridge() -> AsyncIterator[RunningBridge]:
    async with running_bridge() as running:
        yield running


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def error_of(answer: bytes) -> dict[str, Any]:
    body = answer.partition(b"\r\n\r\n")[2]
    return dict(json.loads(body)["error"])


async def answer_to(bridge: RunningBridge, data: bytes) -> bytes:
    async with raw_connection(bridge.service.port) as connection:
        await connection.send(data)
        return await connection.until_closed()


async def drip(connection: RawConnection, data: bytes, gap_s: float) -> None:
    with contextlib.suppress(ConnectionError):
        for byte in data:
            await connection.send(bytes([byte]))
            await asyncio.sleep(gap_s)


async def test_a_silent_connection_is_closed(bridge: RunningBridge) -> None:
    async with raw_connection(bridge.service.port) as connection:
        started = time.monotonic()
        assert await connection.until_closed() == b""
        assert 0.4 < time.monotonic() - started < 1.5


async def test_a_slow_head_is_answered_408_however_steadily_it_drips(bridge: RunningBridge) -> None:
    async with raw_connection(bridge.service.port) as connection:
        dripping = asyncio.ensure_future(drip(connection, GOOD * 10, 0.05))
        answer = await connection.until_closed()
        dripping.cancel()
    assert status_of(answer) == 408
    assert error_of(answer)["code"] == "DEADLINE_EXCEEDED"


async def test_line_breaks_before_a_head_do_not_hold_a_connection_open(bridge: RunningBridge) -> None:
    async with raw_connection(bridge.service.port) as connection:
        await connection.send(GOOD)
        await connection.reader.readuntil(b"}")
        dripping = asyncio.ensure_future(drip(connection, b"\r\n" * 100, 0.05))
        await connection.until_closed(3)
        dripping.cancel()


async def test_a_connection_that_idles_after_an_answer_is_closed(bridge: RunningBridge) -> None:
    async with raw_connection(bridge.service.port) as connection:
        await connection.send(GOOD)
        assert status_of(await connection.until_closed(3)) == 200


async def test_a_body_that_stops_is_408(bridge: RunningBridge) -> None:
    async with raw_connection(bridge.service.port) as connection:
        await connection.send(post(b'{"model":', "content-length: 100"))
        answer = await connection.until_closed(4)
    assert status_of(answer) == 408
    assert bridge.gateway.metadata == {}


async def test_a_body_that_drips_is_408_when_its_time_is_over(bridge: RunningBridge) -> None:
    async with raw_connection(bridge.service.port) as connection:
        started = time.monotonic()
        dripping = asyncio.ensure_future(drip(connection, post(b"{" * 50, "content-length: 1000"), 0.01))
        answer = await connection.until_closed(8)
        dripping.cancel()
    assert status_of(answer) == 408
    assert time.monotonic() - started < 5


async def test_a_body_that_drips_after_the_answer_does_not_hold_the_connection(bridge: RunningBridge) -> None:
    async with raw_connection(bridge.service.port) as connection:
        await connection.send(b"POST /nowhere HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\n")
        dripping = asyncio.ensure_future(drip(connection, b"x" * 1000, 0.05))
        answer = await connection.until_closed(5)
        dripping.cancel()
    assert status_of(answer) == 404
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("declares_length", [True, False], ids=["content-length", "chunked"])
async def test_a_body_over_the_limit_is_413(bridge: RunningBridge, declares_length: bool) -> None:
    content: Any = b"x" * (64 * 1024 + 1)
    if not declares_length:

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(65):
                yield b"x" * 1024

        content = chunks()
    headers = {"content-type": "application/json"}
    answer = await bridge.http.post("/api/infer", content=content, headers=headers)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "RESOURCE_EXHAUSTED"
    assert answer.headers["x-request-id"] == answer.json()["error"]["request_id"]


async def test_a_client_that_sends_all_before_it_reads_still_sees_413(roomy_bridge: RunningBridge) -> None:
    headers = {"content-type": "application/json"}
    answer = await roomy_bridge.http.post("/api/infer", content=b"x" * 17 * 1024 * 1024, headers=headers)
    assert answer.status_code == 413


async def test_a_client_that_expects_100_is_told_413_before_it_sends(bridge: RunningBridge) -> None:
    async with raw_connection(bridge.service.port) as connection:
        await connection.send(post(b"", "content-length: 99999999", "expect: 100-continue"))
        assert status_of(await connection.until_closed(5)) == 413


async def test_all_bodies_together_have_a_limit() -> None:
    async with running_bridge(max_total_body_bytes=100_000) as bridge:
        bridge.gateway.infer_script = never
        async with raw_connection(bridge.service.port) as held:
            body = json.dumps({"model": "chat", "payload": "x" * 60_000}).encode()
            await held.send(post(body, f"content-length: {len(body)}"))
            await asyncio.wait_for(bridge.gateway.arrived.wait(), 5)
            refused = await bridge.infer({"model": "chat", "payload": "x" * 60_000})
            assert refused.status_code == 503
        await asyncio.wait_for(bridge.gateway.cancelled.wait(), 5)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nx: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"x: y\r\n" * 10_000 + b"\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"x: y\r\n" * 101 + b"\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nx: " + b"a" * 300_000,
    ],
    ids=["one long", "ten thousand", "one too many", "long path", "without an end"],
)
async def test_a_head_over_the_limit_is_431(bridge: RunningBridge, head: bytes) -> None:
    answer = await answer_to(bridge, head)
    assert status_of(answer) == 431
    assert error_of(answer)["code"] == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(b"0\r\n\r\n", "content-length: 5", "transfer-encoding: chunked"),
        post(b"0\r\n\r\n", "transfer-encoding: chunked", "content-length: 5"),
        post(b"ab", "content-length: 1", "content-length: 2"),
        post(b"ab", "content-length: +2"),
        post(b"ab", "content-length : 2"),
        post(b"ab", "transfer-encoding: xchunked"),
        post(b"ab", "transfer-encoding: chunked, identity"),
        post(b"zz\r\n", "transfer-encoding: chunked"),
        b"GET /healthz HTTP/1.1\r\nx: a\x00b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nx: a\rb\r\n\r\n",
        b"CONNECT test:80 HTTP/1.1\r\nhost: test\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET /\xff HTTP/1.1\r\nhost: test\r\n\r\n",
    ],
)
async def test_a_request_that_can_be_read_in_two_ways_is_400(
    bridge: RunningBridge, request_bytes: bytes
) -> None:
    answer = await answer_to(bridge, request_bytes)
    assert status_of(answer) == 400
    assert error_of(answer)["code"] == "INVALID_ARGUMENT"
    assert answer.count(b"HTTP/1.1 400") == 1
    assert bridge.gateway.metadata == {}


async def test_a_post_that_offers_http2_is_answered_with_its_body_read(bridge: RunningBridge) -> None:
    body = json.dumps(CHAT).encode()
    upgrade = ("connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAEAAEAAAAIAAAAA")
    async with raw_connection(bridge.service.port) as connection:
        await connection.send(post(body, f"content-length: {len(body)}", *upgrade))
        answer = await connection.until_closed(4)
    assert status_of(answer) == 200
    assert b'"text":"Once"' in answer


async def test_a_websocket_is_not_offered(bridge: RunningBridge) -> None:
    answer = await answer_to(
        bridge,
        b"GET /api/infer HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
    )
    assert status_of(answer) == 405


async def test_a_pipelined_request_is_dropped_after_the_answer_to_the_first(bridge: RunningBridge) -> None:
    assert (await answer_to(bridge, GOOD + GOOD)).count(b"HTTP/1.1 200") == 1


async def test_a_client_that_pipelines_and_leaves_still_cancels_its_call(bridge: RunningBridge) -> None:
    bridge.gateway.infer_script = never
    body = json.dumps(CHAT).encode()
    async with raw_connection(bridge.service.port) as connection:
        await connection.send(post(body, f"content-length: {len(body)}") * 2)
        await asyncio.wait_for(bridge.gateway.arrived.wait(), 5)
    await asyncio.wait_for(bridge.gateway.cancelled.wait(), 5)


async def test_a_reader_that_stops_is_cut_off_and_its_call_cancelled(bridge: RunningBridge) -> None:
    async def script(_: Any) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        while True:
            yield piece("x" * 16_384, model="chat")

    bridge.gateway.stream_script = script
    body = json.dumps(CHAT | {"stream": True}).encode()
    async with raw_connection(bridge.service.port) as connection:
        await connection.send(post(body, f"content-length: {len(body)}"))
        await asyncio.wait_for(bridge.gateway.cancelled.wait(), 8)


async def test_a_reader_that_is_slow_but_reads_is_served(bridge: RunningBridge) -> None:
    async def script(_: Any) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        while True:
            yield piece("x" * 16_384, model="chat")

    bridge.gateway.stream_script = script
    body = json.dumps(CHAT | {"stream": True}).encode()
    async with raw_connection(bridge.service.port) as connection:
        await connection.send(post(body, f"content-length: {len(body)}"))
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            assert await asyncio.wait_for(connection.reader.read(262_144), 2)
            await asyncio.sleep(0.02)
        assert not bridge.gateway.cancelled.is_set()


async def test_over_the_cap_idle_connections_make_room_and_busy_ones_do_not() -> None:
    async with running_bridge(max_connections=3) as bridge, contextlib.AsyncExitStack() as stack:
        port = bridge.service.port
        idle = [await stack.enter_async_context(raw_connection(port)) for _ in range(3)]
        assert (await bridge.http.get("/healthz")).status_code == 200
        assert await idle[0].until_closed(2) == b""
        bridge.gateway.infer_script = never
        body = json.dumps(CHAT).encode()
        request = post(body, f"content-length: {len(body)}")
        for _ in range(3):
            busy = await stack.enter_async_context(raw_connection(port))
            await busy.send(request)
        while bridge.in_flight < 3:
            await asyncio.sleep(0.01)
        async with raw_connection(port) as refused:
            answer = await refused.until_closed(2)
        assert status_of(answer) == 503


async def test_450_hostile_sockets_do_not_hurt_a_good_client() -> None:
    settings = SHORT | {"header_timeout_s": 2.0, "body_idle_timeout_s": 2.0, "body_timeout_s": 3.0}
    async with running_bridge(**settings) as bridge, contextlib.AsyncExitStack() as stack:
        beginnings = [b"", b"POST /api/infer HTTP/1.1\r\nx: ", post(b"{", "content-length: 100")]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        hostile = []
        for number in range(450):
            connection = await stack.enter_async_context(raw_connection(bridge.service.port))
            await connection.send(beginnings[number % 3])
            hostile.append(connection)
        durations = []
        for _ in range(50):
            started = time.monotonic()
            assert (await bridge.infer(CHAT)).status_code == 200
            durations.append(time.monotonic() - started)
        assert sorted(durations)[-3] < 0.5
        await asyncio.gather(*(connection.until_closed(8) for connection in hostile))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 50 * 1024
        assert (await bridge.infer(CHAT)).status_code == 200
        async with asyncio.timeout(5):
            while bridge.service.http.open_connections > 1:
                await asyncio.sleep(0.05)


BOMBS = {
    "depth 1,000": b"[" * 1000 + b"]" * 1000,
    "depth 100,000": b"[" * 100_000 + b"]" * 100_000,
    "open depth 1,000,000": b'{"a":' * 1_000_000,
    "NaN": b"NaN",
    "Infinity": b"1e999",
    "5,000 digits": b"1" * 5000,
    "lone surrogate": b'"\\ud800"',
    "a million keys": b"{" + b",".join(b'"%d":0' % number for number in range(1_000_000)) + b"}",
    "not UTF-8": b'"\xff"',
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
@pytest.mark.parametrize("where", ["the body", "the payload"])
async def test_a_json_bomb_is_400_within_little_cpu(
    roomy_bridge: RunningBridge, bomb: bytes, where: str
) -> None:
    body = bomb if where == "the body" else b'{"model":"chat","payload":' + bomb + b"}"
    started = time.process_time()
    answer = await roomy_bridge.http.post(
        "/api/infer", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400
    assert len(answer.content) < 1000
    # Includes the client; a million keys take most of it in orjson.
    assert time.process_time() - started < 2.0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"model": "chat"}',
        b'{"payload": "x"}',
        b'{"model": 1, "payload": "x"}',
        b'{"model": "", "payload": "x"}',
        b'{"model": "chat", "payload": null}',
        b'{"model": "chat", "payload": "x", "stream": "yes"}',
        b'{"model": "chat", "payload": "x", "id": "a b"}',
        b'{"model": "chat", "payload": "x", "version": 1}',
        b'{"model": "chat", "payload": "x", "extra": 1}',
        b'{"model": "chat", "payload": {"prompt": "x", "max_tokens": -1}}',
        b'{"model": "chat", "payload": {"prompt": "x", "top_k": 1e99}}',
        b'{"model": "tensors", "payload": {"inputs": [{}]}}',
    ],
)
async def test_a_wrong_body_is_400_and_names_what_is_wrong(bridge: RunningBridge, body: bytes) -> None:
    answer = await bridge.http.post("/api/infer", content=body, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "INVALID_ARGUMENT")
    assert error["message"]
    assert "Error" not in error["message"]


async def test_a_body_that_is_not_declared_json_is_415(bridge: RunningBridge) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"):
        answer = await bridge.http.post("/api/infer", content=b"{}", headers={"content-type": content_type})
        assert answer.status_code == 415
        assert answer.json()["error"]["code"] == "INVALID_ARGUMENT"
    for content_type in ("application/json; charset=utf-8", "Application/JSON", "application/ld+json"):
        body = json.dumps(CHAT).encode()
        answer = await bridge.http.post("/api/infer", content=body, headers={"content-type": content_type})
        assert answer.status_code == 200
