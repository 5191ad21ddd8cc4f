"""An HTTP proxy before a good server that changes what is asked or answered: one lie at a time.

For the conformance suites: each of their checks must notice the lie that is made for it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

HOP_HEADERS = frozenset(
    {"connection", "content-encoding", "content-length", "date", "host", "server", "transfer-encoding"}
)
BINARY = "inference-header-content-length"


@dataclasses.dataclass(frozen=True)
class HttpLie:
    """What is changed. Each part works alone.

    path: only where the path has it. request: changes the JSON that is asked. answer: changes the
    JSON of a good answer. events: makes other events of a stream's. body: changes the bytes of a
    good answer. failures: the status of every failure. failure: changes the JSON of a failure.
    answers: status and JSON whatever the server says. headers: set on every answer; "" = taken away.
    key: sent whatever the client sends.
    """

    path: str = ""
    request: Callable[[Any], None] | None = None
    answer: Callable[[Any], None] | None = None
    events: Callable[[list[Any]], list[Any]] | None = None
    body: Callable[[bytes], bytes] | None = None
    failures: int | None = None
    failure: Callable[[Any], None] | None = None
    answers: tuple[int, Any] | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    key: bool = False


@dataclasses.dataclass
class LyingHttpProxy:
    """A running proxy; `lie` is what it does now, None = it is honest. key: for a lie that sends it."""

    url: str
    key: str = ""
    lie: HttpLie | None = None


@asynccontextmanager
async def lying_http_proxy(upstream: str, key: str) -> AsyncIterator[LyingHttpProxy]:
    """A proxy on loopback before a server."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        proxy = LyingHttpProxy(f"http://127.0.0.1:{listening.getsockname()[1]}", key)
        async with httpx.AsyncClient(base_url=upstream, timeout=30, trust_env=False) as http:

            async def handle(request: Request) -> Response:
                return await _told(http, proxy, request)

            methods = ["GET", "POST", "PUT"]
            app = Starlette(routes=[Route("/{path:path}", handle, methods=methods)])
            server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(server.serve(sockets=[listening]))
                while not server.started:
                    await asyncio.sleep(0.001)
                try:
                    yield proxy
                finally:
                    server.should_exit = True
                    await serving


async def _told(http: httpx.AsyncClient, proxy: LyingHttpProxy, request: Request) -> Response:
    path = request.scope["raw_path"].decode()
    lie = proxy.lie if proxy.lie is not None and proxy.lie.path in path else HttpLie()
    if lie.answers is not None:
        status, document = lie.answers
        return Response(json.dumps(document), status, media_type="application/json")
    headers = {name: value for name, value in request.headers.items() if name not in HOP_HEADERS}
    headers["accept-encoding"] = "identity"
    if lie.key:
        headers["authorization"] = f"Bearer {proxy.key}"
    body = await request.body()
    if lie.request is not None and BINARY not in headers:
        body = _changed(body, lie.request)
    answer = await http.request(request.method, path, content=body, headers=headers)
    return _answer_of(answer, lie)


def _answer_of(answer: httpx.Response, lie: HttpLie) -> Response:
    status, body = answer.status_code, answer.content
    headers = {name: value for name, value in answer.headers.items() if name not in HOP_HEADERS}
    is_stream = headers.get("content-type", "").startswith("text/event-stream")
    if status >= 400:
        status = lie.failures or status
        body = _changed(body, lie.failure) if lie.failure is not None else body
    elif is_stream and lie.events is not None:
        body = _with_events(body, lie.events)
    elif not is_stream and lie.answer is not None and BINARY not in headers:
        body = _changed(body, lie.answer)
    if status < 400 and lie.body is not None:
        body = lie.body(body)
    headers |= lie.headers
    return Response(body, status, headers={name: value for name, value in headers.items() if value})


def _changed(body: bytes, change: Callable[[Any], None]) -> bytes:
    """A JSON body after a change; another body as it is."""
    try:
        document = json.loads(body)
        change(document)
    except (ValueError, TypeError, LookupError, AttributeError):
        return body
    return json.dumps(document).encode()


def _with_events(body: bytes, change: Callable[[list[Any]], list[Any]]) -> bytes:
    """A stream with other events; its last line stays."""
    parts = [part.removeprefix("data: ") for part in body.decode().split("\n\n") if part]
    ends = [part for part in parts if part == "[DONE]"]
    events = change([json.loads(part) for part in parts if part != "[DONE]"])
    told = [*(json.dumps(event) for event in events), *ends]
    return "".join(f"data: {part}\n\n" for part in told).encode()
