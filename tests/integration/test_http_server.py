from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from inference_mesh.asgi_limits import RequestLimits
from inference_mesh.http_protocol import HttpLimits
from inference_mesh.http_server import HttpServer, Readiness, operations_routes


class Service:
    """A small application as a worker has one."""

    def __init__(self) -> None:
        self.running = asyncio.Event()
        self.gate = asyncio.Event()
        self.readiness = Readiness(is_ready=True)
        self.registry = CollectorRegistry()
        self.cancelled = False
        Counter("mesh_example", "An example.", registry=self.registry).inc()
        routes = [
            *operations_routes(lambda: self.readiness, self.registry),
            Route("/slow", self.slow),
            Route("/echo", self.echo, methods=["POST"]),
        ]
        self.app = RequestLimits(Starlette(routes=routes), max_body_bytes=1000, body_timeout_s=0.3)

    async def slow(self, _: Request) -> Response:
        self.running.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return PlainTextResponse("done")

    async def echo(self, request: Request) -> Response:
        return Response(await request.body())


@contextlib.asynccontextmanager
async def serving(
    service: Service, limits: HttpLimits | None = None
) -> AsyncIterator[tuple[HttpServer, httpx.AsyncClient]]:
    server = HttpServer(service.app, "127.0.0.1", 0, limits)
    await server.start()
    base = f"http://127.0.0.1:{server.port}"
    try:
        async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=10) as client:
            yield server, client
    finally:
        await server.stop(0)


async def test_the_pages_of_a_process_say_how_it_is() -> None:
    service = Service()
    async with serving(service) as (_, client):
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert (await client.get("/readyz")).json() == {"ready": True, "detail": {}}
        service.readiness = Readiness(is_ready=False, detail={"model": "loading"})
        refused = await client.get("/readyz")
        assert (refused.status_code, refused.json()["detail"]) == (503, {"model": "loading"})
        metrics = await client.get("/metrics")
        assert "mesh_example_total 1.0" in metrics.text
        assert metrics.headers["content-type"].startswith("text/plain")


async def test_a_port_that_is_taken_is_an_error_of_start() -> None:
    service = Service()
    async with serving(service) as (server, _):
        with pytest.raises(OSError, match="in use"):
            await HttpServer(service.app, "127.0.0.1", server.port).start()


async def test_a_stop_waits_for_what_runs_and_takes_nothing_new() -> None:
    service = Service()
    async with serving(service) as (server, client), asyncio.TaskGroup() as group:
        running = group.create_task(client.get("/slow"))
        await service.running.wait()
        stopping = group.create_task(server.stop(10))
        await asyncio.sleep(0)
        with pytest.raises(httpx.ConnectError):
            async with httpx.AsyncClient(trust_env=False) as other:
                await other.get(f"http://127.0.0.1:{server.port}/healthz")
        assert not stopping.done()
        service.gate.set()
    assert running.result().text == "done"
    assert server.open_connections == 0


async def test_a_stop_cancels_what_outlasts_the_grace() -> None:
    service = Service()
    async with serving(service) as (server, client), asyncio.TaskGroup() as group:
        running = group.create_task(_status(client, "/slow"))
        await service.running.wait()
        await server.stop(0.1)
    assert service.cancelled
    assert running.result() != 200
    assert server.open_connections == 0


async def test_limits_of_a_body_hold_for_any_application() -> None:
    async with serving(Service()) as (_, client):

        async def slowly() -> AsyncIterator[bytes]:
            yield b"x"
            await asyncio.sleep(1)
            yield b"x"

        async def undeclared() -> AsyncIterator[bytes]:
            for _ in range(3000):
                yield b"x" * 600

        assert (await client.post("/echo", content=b"x" * 1000)).status_code == 200
        assert (await client.post("/echo", content=b"x" * 1001)).status_code == 413
        assert (await client.post("/echo", content=undeclared())).status_code == 413
        late = await client.post("/echo", content=slowly())
        assert (late.status_code, late.json()["error"]["code"]) == (408, "DEADLINE_EXCEEDED")


async def test_connections_never_take_more_than_half_of_the_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    service = Service()
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 128), hard))
    try:
        async with serving(service, HttpLimits(max_connections=10_000)) as (server, client):
            idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(50)]
            assert server.open_connections <= 64
            assert (await client.get("/healthz")).status_code == 200
            for _, writer in idle:
                writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _status(client: httpx.AsyncClient, path: str, content: AsyncIterator[bytes] | None = None) -> int:
    try:
        answer = await (client.get(path) if content is None else client.post(path, content=content))
    except httpx.TransportError:
        return 0
    return answer.status_code
