"""The HTTP port of a process: uvicorn inside the running event loop.

Owns listening, stopping and the three pages that every process has: /healthz, /readyz and
/metrics. Signals belong to `lifecycle`, limits of connections to `http_protocol`.
"""

from __future__ import annotations

import asyncio
import inspect
import resource
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.config import Config
from uvicorn.server import ServerState

from inference_mesh import strict_json, telemetry
from inference_mesh.http_protocol import ConnectionTable, GuardedProtocol, HttpLimits
from inference_mesh.metrics_page import MetricsPage, format_of

log = telemetry.get_logger(__name__)

BACKLOG = 2048
CANCEL_LIMIT_S = 2.0


@dataclass(frozen=True)
class Readiness:
    """Whether a process can serve, and what stands in its way."""

    is_ready: bool
    detail: dict[str, str] = field(default_factory=dict)


ReadinessCheck = Callable[[], Readiness | Awaitable[Readiness]]


class HttpServer:
    """One ASGI application on one TCP port."""

    def __init__(self, app: Any, host: str, port: int, limits: HttpLimits | None = None) -> None:
        """port: 0 = any free one; `port` names it after start()."""
        self.port = port
        self._app = app
        self._host = host
        self._limits = _within_open_files(limits or HttpLimits())
        self._state = ServerState()
        self._table: ConnectionTable | None = None
        self._listener: asyncio.Server | None = None

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._table) if self._table else 0

    async def start(self) -> None:
        """Listen. Raises OSError if the address is taken."""
        config = Config(
            self._app,
            http=GuardedProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="error",  # else every malformed request of anybody is a line in the log
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=int(self._limits.keep_alive_s) + 1,
        )
        config.load()
        table = ConnectionTable(self._limits)
        listening = _listening_socket(self._host, self.port)
        self.port = listening.getsockname()[1]
        self._listener = await asyncio.get_running_loop().create_server(
            lambda: GuardedProtocol(config, self._state, {}, table), sock=listening, backlog=BACKLOG
        )
        self._table = table
        table.start_sweeping()

    async def stop(self, grace_s: float) -> None:
        """Listen no more, let requests finish within the grace, cancel the rest, close."""
        if self._listener is None or self._table is None:
            return
        self._listener.close()
        for connection in self._table:
            connection.shutdown()
        try:
            await asyncio.wait_for(self._finished(self._table), grace_s)
        except TimeoutError:
            await self._cut_off()
        self._table.stop_sweeping()

    async def _finished(self, table: ConnectionTable) -> None:
        if self._state.tasks:
            await asyncio.wait(self._state.tasks)
        await table.wait_empty()

    async def _cut_off(self) -> None:
        tasks = set(self._state.tasks)
        log.warning("requests cut off", requests=len(tasks), connections=self.open_connections)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_LIMIT_S)
        for connection in self._table or ():
            connection.transport.abort()


def operations_routes(
    readiness: ReadinessCheck,
    registry: CollectorRegistry,
    before_scrape: Callable[[], object] = lambda: None,
) -> list[Route]:
    """/healthz: the process lives. /readyz: it can serve (else 503). /metrics: Prometheus.

    before_scrape: called on the event loop, to renew what is measured at this moment.
    """
    page, one_at_a_time = MetricsPage(registry), asyncio.Lock()

    async def healthz(_: Request) -> Response:
        return _json(200, {"status": "ok"})

    async def readyz(_: Request) -> Response:
        answer = readiness()
        state = await answer if inspect.isawaitable(answer) else answer
        return _json(200 if state.is_ready else 503, {"ready": state.is_ready, "detail": state.detail})

    async def metrics(request: Request) -> Response:
        form = format_of(request.headers.get("accept", ""))
        async with one_at_a_time:
            before_scrape()
            text = await asyncio.to_thread(page.render, form)
        return Response(text, headers={"content-type": form.value})

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]


def _json(status: int, document: object) -> Response:
    return Response(strict_json.dumps(document), status, media_type="application/json")


def _listening_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


def _within_open_files(limits: HttpLimits) -> HttpLimits:
    """The limits with a cap on connections that leaves half of the process's files free."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits
    return replace(limits, max_connections=min(limits.max_connections, max(1, soft // 2)))
