"""HTTP services that hang, and such as only look like it because their one thread is at work."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import random
import threading
import time
from collections.abc import Iterator

from gateway.upstream.attempts import RetryBudgets
from gateway.upstream.fleet import HttpModel
from gateway.upstream.http_services import HttpServices
from inference_mesh.errors import DeadlineExceededError, MeshError, UnavailableError
from inference_mesh.v1 import inference_pb2, payload_pb2
from tests.support.upstreams import Upstream, model_entry, running_upstream

NOTICED_WITHIN_S = 5.0


class Service:
    """A real HTTP server that names itself; one that hangs takes connections and answers nothing."""

    def __init__(self, name: str, server_class: type[http.server.HTTPServer]) -> None:
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.got_call = threading.Event()
        self._server = server_class(("127.0.0.1", 0), _handler(name, self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.target = f"127.0.0.1:{self._server.server_address[1]}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Service]:
        """Serve for the length of a block."""
        self._thread.start()
        try:
            yield self
        finally:
            self.goes_on.set()
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


def _handler(name: str, service: Service) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seconds = float(self.rfile.read(int(self.headers["content-length"])))
            service.got_call.set()
            threading.Event().wait(seconds)
            self.answer(f'"{name}"'.encode())

        def do_GET(self) -> None:
            self.answer(b"")

        def answer(self, body: bytes) -> None:
            service.goes_on.wait()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keeps quiet."""

    return Handler


class Caller:
    """Posts to the model "chat"."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._services = HttpServices(
            upstream.metrics, RetryBudgets(), random.Random(1), max_answer_bytes=1000
        )

    async def post(self, seconds: float = 0.0, timeout_s: float = 20) -> str:
        """Which service answered, after so many seconds of work."""
        model = self._upstream.fleet.target("chat", "")
        assert isinstance(model, HttpModel)
        payload = payload_pb2.Payload(json=str(seconds).encode())
        message = inference_pb2.InferRequest(model="chat", payload=payload).SerializeToString()
        call = self._upstream.call("Infer", timeout_s=timeout_s)
        answer = await self._services.infer(call, model, message)
        return inference_pb2.InferResponse.FromString(answer).output.json.decode().strip('"')


def ready(upstream: Upstream) -> int:
    target = upstream.fleet.target("chat", "")
    assert target is not None
    return len(target.pool.ready)


async def test_a_service_that_hangs_at_work_is_left_out_within_five_seconds_and_comes_back() -> None:
    threads = http.server.ThreadingHTTPServer
    with Service("a", threads).running() as first, Service("b", threads).running() as second:
        async with running_upstream(model_entry(first, second, path="/infer")) as upstream:
            caller = Caller(upstream)
            first.goes_on.clear()
            waiting = [asyncio.ensure_future(caller.post(timeout_s=30)) for _ in range(4)]
            hung_s = time.monotonic()
            left_out = {"model": "chat", "endpoint": first.target}
            async with asyncio.timeout(NOTICED_WITHIN_S):
                while not upstream.metric("mesh_gateway_ejections_total", **left_out):
                    assert first.got_call.is_set() or time.monotonic() - hung_s < 1
                    await asyncio.sleep(0.02)
            assert {await caller.post() for _ in range(12)} == {"b"}
            first.goes_on.set()
            assert set(await asyncio.gather(*waiting)) == {"a", "b"}, "its own calls were not given up"
            async with asyncio.timeout(NOTICED_WITHIN_S):
                while "a" not in await asyncio.gather(*(caller.post(0.1) for _ in range(4))):
                    pass
            assert upstream.metric("mesh_gateway_ejections_total", **left_out) == 1


async def test_a_service_whose_only_thread_has_a_long_call_is_not_down() -> None:
    with Service("a", http.server.HTTPServer).running() as service:
        async with running_upstream(model_entry(service, path="/infer")) as upstream:
            caller = Caller(upstream)
            long = asyncio.ensure_future(caller.post(4.0))
            queued = asyncio.ensure_future(caller.post())
            while not long.done():
                assert ready(upstream) == 1
                await asyncio.sleep(0.02)
            assert (await long, await queued, await caller.post()) == ("a", "a", "a")


async def test_an_only_service_that_answers_nothing_for_as_long_as_a_call_may_take_is_down() -> None:
    with Service("a", http.server.ThreadingHTTPServer).running() as service:
        entry = model_entry(service, path="/infer", timeout_s=1.0)
        async with running_upstream(entry) as upstream, asyncio.TaskGroup() as group:
            caller = Caller(upstream)
            service.goes_on.clear()

            async def ask() -> None:
                with contextlib.suppress(DeadlineExceededError, UnavailableError):
                    await caller.post(timeout_s=1.0)

            async with asyncio.timeout(NOTICED_WITHIN_S + 1.0):
                while ready(upstream):
                    group.create_task(ask())
                    await asyncio.sleep(0.2)
            asked_s = time.monotonic()
            error = await _failure(caller)
            assert isinstance(error, UnavailableError)
            assert time.monotonic() - asked_s < 0.1
            service.goes_on.set()
            async with asyncio.timeout(NOTICED_WITHIN_S):
                while not ready(upstream):
                    await asyncio.sleep(0.02)
            assert await caller.post() == "a"


async def _failure(caller: Caller) -> MeshError:
    try:
        await caller.post()
    except MeshError as error:
        return error
    raise AssertionError("the call succeeded")
