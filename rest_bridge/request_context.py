"""What surrounds every HTTP request: its id, its span, its metrics, its line in the log.

Every answer leaves here, so the headers that every answer has are added here: its id, and what
the gateway said of the call.

Pure ASGI: Starlette's BaseHTTPMiddleware would hide a client that leaves.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from opentelemetry.trace import Span

from inference_mesh import telemetry, tracing
from inference_mesh.asgi_limits import AsgiApp, Message, Receive, Scope, Send
from inference_mesh.errors import InvalidInputError
from inference_mesh.metadata import REQUEST_ID, TRACE_PARENT, TRACE_STATE, Metadata
from inference_mesh.request_ids import request_id_from
from rest_bridge.gateway_notes import notes_of
from rest_bridge.metrics import BridgeMetrics
from rest_bridge.problem import send_error

log = telemetry.get_logger(__name__)

QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by machines: counted, but neither logged nor traced."""

ANTHROPIC_PATH = "/v1/messages"
UNKNOWN_ROUTE = "unmatched"
CLIENT_LEFT = 499
ALWAYS_SENT = [(b"x-content-type-options", b"nosniff")]

Header = tuple[bytes, bytes]


class RequestContext:
    """An application whose requests have an id and leave a record."""

    def __init__(self, app: AsgiApp, metrics: BridgeMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application for one request."""
        if scope["type"] != "http":
            return
        headers = _text_headers(scope)
        if scope["path"] in QUIET_ROUTES:
            await self._measured(scope, headers, receive, send)
            return
        with tracing.span(f"bridge {scope['method']}", metadata=_trace_of(scope), kind="server") as span:
            started = time.monotonic()
            status = CLIENT_LEFT
            try:
                status = await self._measured(scope, headers, receive, send)
            finally:
                _record(span, scope, status, time.monotonic() - started)

    async def _measured(self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> int:
        """The status of the answer; CLIENT_LEFT if there was none."""
        status = CLIENT_LEFT

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                told = [*notes_of(scope).headers(), *_id_headers(scope["path"])]
                message["headers"] = _with_own_headers(message.get("headers", []), told)
            await send(message)

        started = time.monotonic()
        try:
            with self._metrics.in_flight.track_inprogress():
                await self._identified(scope, headers, receive, sending)
        finally:
            seconds = time.monotonic() - started
            self._metrics.count(route_of(scope), scope["method"], status, seconds)
        return status

    async def _identified(self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> None:
        telemetry.current_request_id.set(request_id_from(None))
        try:
            telemetry.current_request_id.set(request_id_from(headers.get(REQUEST_ID)))
        except InvalidInputError as error:
            await send_error(error, scope, send)
            return
        await self._app(scope, receive, send)


def route_of(scope: Scope) -> str:
    """The template of the route that answered, a constant where none did."""
    return str(getattr(scope.get("route"), "path", UNKNOWN_ROUTE))


def _with_own_headers(headers: Iterable[Header], told: Iterable[Header]) -> list[Header]:
    name = REQUEST_ID.encode()
    others = [header for header in headers if header[0] != name]
    return [*others, *told, *ALWAYS_SENT]


def _id_headers(path: str) -> list[Header]:
    """The id of the request, and under the name as well by which Anthropic's clients look for it."""
    names = (REQUEST_ID, "request-id") if path.startswith(ANTHROPIC_PATH) else (REQUEST_ID,)
    return [(name.encode(), telemetry.current_request_id.get().encode()) for name in names]


def _text_headers(scope: Scope) -> dict[str, str]:
    """The headers by name; of several with one name the first."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


def _trace_of(scope: Scope) -> Metadata:
    """traceparent and tracestate; what several headers tell of the state is one list."""
    told = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    parents = [pair for pair in told if pair[0] == TRACE_PARENT]
    states = [value for name, value in told if name == TRACE_STATE]
    return [*parents[:1], (TRACE_STATE, ",".join(states))] if states else parents[:1]


def _record(span: Span, scope: Scope, status: int, seconds: float) -> None:
    route = route_of(scope)
    span.update_name(f"bridge {scope['method']} {route}")
    span.set_attribute("http.request.method", scope["method"])
    span.set_attribute("http.route", route)
    span.set_attribute("http.response.status_code", status)
    notes = notes_of(scope)
    log.info(
        "request",
        method=scope["method"],
        route=route,
        status=status,
        broken_by=notes.broken_by,
        decision=notes.decision,
        duration_s=round(seconds, 6),
        prompt_tokens=notes.usage.prompt_tokens,
        completion_tokens=notes.usage.completion_tokens,
        cached_tokens=notes.usage.cached_tokens,
    )
