"""Streams of requests, and HTTP services, when a replica does not take part."""

from __future__ import annotations

import asyncio
import http.server
import random
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.upstream.attempts import RetryBudgets
from gateway.upstream.fleet import HttpModel
from gateway.upstream.http_services import HttpServices
from inference_mesh.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidInputError,
    StreamBrokenError,
    UnavailableError,
)
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.v1 import inference_pb2, payload_pb2
from tests.support.upstreams import Upstream, client_of, model_entry, running_upstream, two_workers

PATH = "/inference.GRPCInferenceService/ModelStreamInfer"


def request(name: str) -> bytes:
    return oip.ModelInferRequest(model_name="chat", id=name).SerializeToString()


async def accepted(_: bytes) -> None:
    """Every message may pass."""


async def later(*names: str, open_for_s: float = 0.0) -> AsyncIterator[bytes]:
    for name in names:
        yield request(name)
    await asyncio.sleep(open_for_s)


async def exchanged(upstream: Upstream, first: str, *names: str, open_for_s: float = 0.0) -> list[str]:
    """The ids of the answers."""
    call = upstream.call("ModelStreamInfer")
    rest = later(*names, open_for_s=open_for_s)
    await upstream.relay.bidirectional(call, upstream.target(), PATH, request(first), rest, accepted)
    answers = [oip.ModelStreamInferResponse.FromString(one) for one in client_of(call).written]
    return [answer.infer_response.id for answer in answers]


async def test_every_request_of_a_stream_is_answered_in_turn() -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        names = [str(number) for number in range(30)]
        assert await exchanged(upstream, *names) == names
    assert {first.calls, second.calls} == {0, 30}


async def test_a_stream_of_requests_moves_before_its_first_answer() -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        await upstream.ready(2)
        for _ in range(6):
            assert await exchanged(upstream, "refused by a", open_for_s=0.1) == ["refused by a"]
    assert first.calls > 0
    assert second.calls == 6


async def test_a_stream_of_requests_that_breaks_later_says_so() -> None:
    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        for one in (first, second):
            one.refused = "last"
        with pytest.raises(StreamBrokenError):
            await exchanged(upstream, "1", "2", "last")


async def test_a_request_that_may_not_pass_ends_the_stream_with_its_reason() -> None:
    async def judge(message: bytes) -> None:
        raise InvalidInputError("not this one")

    async with two_workers() as (first, second), running_upstream(model_entry(first, second)) as upstream:
        call = upstream.call("ModelStreamInfer")
        rest = later("2", open_for_s=5)
        with pytest.raises(InvalidInputError):
            await upstream.relay.bidirectional(call, upstream.target(), PATH, request("1"), rest, judge)


async def test_a_stream_whose_caller_asks_nothing_more_ends_after_the_models_time() -> None:
    async with two_workers() as (one, other), running_upstream(model_entry(one, other, timeout_s=0.4)) as up:
        with pytest.raises(InvalidInputError, match=r"no request for 0\.4 s"):
            await asyncio.wait_for(exchanged(up, "1", "2", open_for_s=60), 5)


async def test_a_stream_whose_worker_owes_an_answer_ends_after_the_models_time() -> None:
    async with two_workers() as (one, other), running_upstream(model_entry(one, other, timeout_s=0.4)) as up:
        with pytest.raises(DeadlineExceededError, match=r"no answer for 0\.4 s"):
            await asyncio.wait_for(exchanged(up, "1", "mute", open_for_s=60), 5)


async def test_a_stream_in_which_something_moves_lasts_longer_than_the_models_time() -> None:
    async def slow() -> AsyncIterator[bytes]:
        for number in range(2, 12):
            await asyncio.sleep(0.1)
            yield request(str(number))

    async with two_workers() as (one, other), running_upstream(model_entry(one, other, timeout_s=0.4)) as up:
        call = up.call("ModelStreamInfer")
        await up.relay.bidirectional(call, up.target(), PATH, request("1"), slow(), accepted)
        assert len(client_of(call).written) == 11


class Service(http.server.BaseHTTPRequestHandler):
    """Answers with the status that its path names."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(int(self.path.strip("/")))
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""


@pytest.fixture
def services() -> Iterator[list[str]]:
    """Two HTTP services."""
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service) for _ in range(2)]
    threads = [threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01}) for one in servers]
    for thread in threads:
        thread.start()
    yield [f"127.0.0.1:{one.server_address[1]}" for one in servers]
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        thread.join()
        server.server_close()


async def posted(upstream: Upstream) -> bytes:
    model = upstream.fleet.target("chat", "")
    assert isinstance(model, HttpModel)
    budgets = RetryBudgets()
    caller = HttpServices(upstream.metrics, budgets, random.Random(1), max_answer_bytes=1000)
    payload = payload_pb2.Payload(json=b"{}")
    message = inference_pb2.InferRequest(model="chat", payload=payload).SerializeToString()
    call = upstream.call("Infer")
    answer = await caller.infer(call, model, message)
    return inference_pb2.InferResponse.FromString(answer).output.json


async def test_a_service_answers(services: list[str]) -> None:
    async with running_upstream(model_entry(*services, path="/200")) as upstream:
        assert await posted(upstream) == b"{}"


async def test_a_service_that_is_unavailable_is_tried_elsewhere_but_not_for_ever(services: list[str]) -> None:
    async with running_upstream(model_entry(*services, path="/503")) as upstream:
        with pytest.raises(UnavailableError):
            await posted(upstream)
        assert upstream.metric("mesh_gateway_retries_total", model="chat") == 2


async def test_a_service_that_fails_three_times_in_a_row_is_ejected(services: list[str]) -> None:
    async with running_upstream(model_entry(*services, path="/500")) as upstream:
        for _ in range(12):
            with pytest.raises(InternalError):
                await posted(upstream)
        counts = [
            upstream.metric("mesh_gateway_ejections_total", model="chat", endpoint=one) for one in services
        ]
        assert sorted(counts) == [0, 1]
