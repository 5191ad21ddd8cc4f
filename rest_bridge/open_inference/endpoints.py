"""The routes under /v2: health, metadata, statistics and inference; those of the repository are apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inference_mesh.asgi_limits import AsgiApp, Receive, Scope, Send
from rest_bridge.client_watch import while_wanted
from rest_bridge.dialect_endpoint import Dialect
from rest_bridge.gateway_notes import notes_of
from rest_bridge.json_body import answer, off_loop_if_large
from rest_bridge.open_inference.answer import answer_of, config_of, metadata_of, server_of, statistics_of
from rest_bridge.open_inference.binary import HEADER, body_of
from rest_bridge.open_inference.generate import read_generate, read_generate_stream
from rest_bridge.open_inference.repository import repository_routes
from rest_bridge.open_inference.request import Wanted, raw_request, request_of
from rest_bridge.open_inference.upstream import OpenInferenceUpstream
from rest_bridge.upstream import Caller, CallTerms, Upstream, caller_of

ALL_AS_BYTES = Wanted({}, rest=True)


def open_inference_routes(
    endpoint_of: Callable[[Dialect], AsgiApp], upstream: Upstream, terms: CallTerms, cut_off: asyncio.Event
) -> list[Route]:
    """All of them. endpoint_of: the application that serves a dialect."""
    own = OpenInferenceUpstream(upstream)
    pages = _Pages(own, terms)
    infer = _Infer(own, terms, cut_off)
    dialects: dict[str, AsgiApp] = {
        "infer": infer,
        "generate": endpoint_of(read_generate),
        "generate_stream": endpoint_of(read_generate_stream),
    }
    routes = [
        Route("/v2", pages.server),
        Route("/v2/health/live", pages.live),
        Route("/v2/health/ready", pages.ready),
        Route("/v2/models/stats", pages.all_statistics),
    ]
    for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [Route(f"{model}/{name}", app, methods=["POST"]) for name, app in dialects.items()]
        routes += [
            Route(f"{model}/ready", pages.model_ready),
            Route(f"{model}/config", pages.config),
            Route(f"{model}/stats", pages.statistics),
            Route(model, pages.model),
        ]
    return routes + repository_routes(own, terms)


class _Pages:
    """What is asked by GET."""

    def __init__(self, upstream: OpenInferenceUpstream, terms: CallTerms) -> None:
        self._upstream = upstream
        self._terms = terms

    async def live(self, _: Request) -> Response:
        """The process runs."""
        return answer({"live": True})

    async def ready(self, request: Request) -> Response:
        """A gateway takes calls; 503 if none does."""
        is_ready = await self._upstream.is_ready(self._caller(request))
        return _readiness(is_ready)

    async def server(self, request: Request) -> Response:
        """Name, version and extensions."""
        return answer(server_of(await self._upstream.server_metadata(self._caller(request))))

    async def model(self, request: Request) -> Response:
        """What a model takes and gives."""
        name, version = _target(request.path_params)
        metadata = await self._upstream.model_metadata(name, version, self._caller(request))
        return answer(metadata_of(metadata))

    async def config(self, request: Request) -> Response:
        """What a model is, in Triton's form."""
        name, version = _target(request.path_params)
        return answer(config_of(await self._upstream.model_config(name, version, self._caller(request))))

    async def statistics(self, request: Request) -> Response:
        """What was counted of one model."""
        name, version = _target(request.path_params)
        found = await self._upstream.model_statistics(name, version, self._caller(request))
        return answer(statistics_of(found))

    async def all_statistics(self, request: Request) -> Response:
        """What was counted of every model that the caller may use."""
        return answer(statistics_of(await self._upstream.model_statistics("", "", self._caller(request))))

    async def model_ready(self, request: Request) -> Response:
        """The model takes calls; 503 if it does not."""
        name, version = _target(request.path_params)
        is_ready = await self._upstream.model_ready(name, version, self._caller(request))
        return _readiness(is_ready, name=name)

    def _caller(self, request: Request) -> Caller:
        return caller_of(request.headers, self._terms, notes_of(request.scope))


class _Infer:
    """POST …/infer, as an ASGI application of its own: it must see a client that leaves."""

    def __init__(self, upstream: OpenInferenceUpstream, terms: CallTerms, cut_off: asyncio.Event) -> None:
        self._upstream = upstream
        self._terms = terms
        self._cut_off = cut_off

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises MeshError."""
        request = Request(scope, receive)
        caller = caller_of(request.headers, self._terms, notes_of(scope))
        name, version = _target(scope["path_params"])
        data = await request.body()
        body = body_of(data, request.headers.get(HEADER))
        async with while_wanted(receive, self._cut_off):
            if body.json or not data:
                asked, wanted = await off_loop_if_large(len(data), request_of, body, name, version)
            else:
                metadata = await self._upstream.model_metadata(name, version, caller)
                asked, wanted = raw_request(body.tensors, metadata, name, version), ALL_AS_BYTES
            response = await self._upstream.infer(asked, caller)
        found = await off_loop_if_large(response.ByteSize(), answer_of, response, wanted)
        await found(scope, receive, send)


def _target(path_params: dict[str, str]) -> tuple[str, str]:
    return path_params["model"], path_params.get("version", "")


def _readiness(ready: bool, **others: object) -> Response:
    """The answer as JSON and as a status: probes look at the status alone."""
    response = answer({**others, "ready": ready})
    response.status_code = 200 if ready else 503
    return response
