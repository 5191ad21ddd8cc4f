"""The bridge as one ASGI application: its routes and what surrounds them, in order.

RequestContext   id, span, metrics, log line
└ CORS           only where origins are allowed
  └ Problems     exceptions become answers
    └ RequestLimits   size and time of bodies
      └ Router
"""

from __future__ import annotations

import asyncio
from importlib import resources

from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from inference_mesh.asgi_limits import AsgiApp, Receive, RequestLimits, Scope, Send
from inference_mesh.http_server import ReadinessCheck, operations_routes
from rest_bridge import openapi
from rest_bridge.anthropic.messages import read_message
from rest_bridge.dialect_endpoint import Dialect, DialectEndpoint
from rest_bridge.event_stream import EventStream
from rest_bridge.infer import InferEndpoint
from rest_bridge.json_body import answer
from rest_bridge.limit_headers import OPENAI_KINDS
from rest_bridge.metrics import BridgeMetrics
from rest_bridge.models import ModelsEndpoint
from rest_bridge.open_inference.endpoints import open_inference_routes
from rest_bridge.openai.routes import openai_routes
from rest_bridge.problem import Problems
from rest_bridge.request_context import RequestContext
from rest_bridge.settings import BridgeSettings
from rest_bridge.task_cache import TaskCache
from rest_bridge.upstream import CallTerms, Upstream

DOCS_POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

REQUEST_HEADERS = ("authorization", "content-type", "x-api-key", "x-request-id", "x-request-timeout")
ANSWER_HEADERS = (
    "x-request-id",
    "x-mesh-decision",
    "x-mesh-cache",
    "retry-after",
    "retry-after-ms",
    "ratelimit",
    "ratelimit-policy",
    *(f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in OPENAI_KINDS),
)
"""What pages of other origins may send, and read."""


def bridge_app(
    settings: BridgeSettings,
    upstream: Upstream,
    metrics: BridgeMetrics,
    readiness: ReadinessCheck,
    cut_off: asyncio.Event,
) -> AsgiApp:
    """The whole application.

    cut_off: set when running requests must end now.
    """
    terms = CallTerms(
        settings.request_timeout_s, settings.max_request_timeout_s, settings.forwarded_header_names
    )
    tasks = TaskCache(upstream, settings.task_cache_s)
    models = ModelsEndpoint(upstream, terms)
    events = EventStream(metrics, cut_off)

    def serving(dialect: Dialect) -> AsgiApp:
        return DialectEndpoint(dialect, upstream, terms, events, cut_off)

    routes = [
        Route("/api/infer", InferEndpoint(upstream, tasks, terms, events, cut_off), methods=["POST"]),
        Route("/api/models", models.list_models),
        Route("/api/models/{name}", models.get_model),
        *openai_routes(serving, upstream, terms),
        Route("/v1/messages", serving(read_message), methods=["POST"]),
        *open_inference_routes(serving, upstream, terms, cut_off),
        Route("/openapi.json", _openapi),
        Route("/docs", _docs),
        *operations_routes(readiness, metrics.registry),
    ]
    router = Router(routes, redirect_slashes=False, default=_no_such_path)
    limited = RequestLimits(
        _as_application(router),
        max_body_bytes=settings.max_message_bytes,
        body_timeout_s=settings.body_timeout_s,
        idle_timeout_s=settings.body_idle_timeout_s,
        max_total_body_bytes=settings.max_total_body_bytes,
    )
    return RequestContext(_with_cors(Problems(limited), settings), metrics)


def _as_application(router: Router) -> AsgiApp:
    """The router, raising on a wrong method instead of answering in a form of its own."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = router
        await router(scope, receive, send)

    return application


def _with_cors(app: AsgiApp, settings: BridgeSettings) -> AsgiApp:
    if not settings.allowed_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=settings.allowed_origins,
        allow_methods=("GET", "POST"),
        allow_headers=(*REQUEST_HEADERS, *settings.forwarded_header_names),
        expose_headers=ANSWER_HEADERS,
        max_age=600,
    )


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    raise HTTPException(status_code=404)


async def _openapi(_: Request) -> Response:
    return answer(openapi.document())


async def _docs(_: Request) -> Response:
    page = resources.files("rest_bridge").joinpath("docs.html").read_bytes()
    return Response(page, media_type="text/html", headers={"content-security-policy": DOCS_POLICY})
