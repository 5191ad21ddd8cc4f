"""A worker's plain HTTP: `POST /infer` with the payload as body and the output as answer.

The form that the gateway speaks to any HTTP service, so a worker is one too. Beside it the
pages that every process has.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Awaitable, Callable, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inference_mesh import http_errors, json_payload, metadata, strict_json
from inference_mesh.asgi_limits import RequestLimits
from inference_mesh.deadlines import deadline_after
from inference_mesh.errors import InvalidInputError, MeshError, UnsupportedError
from inference_mesh.http_server import Readiness, operations_routes
from inference_mesh.request_ids import request_id_from
from inference_mesh.status_interceptor import unmapped
from inference_mesh.v1 import payload_pb2
from workers.calls import CallFacts, Calls, facts_of, whole
from workers.client_watch import while_connected
from workers.engine import Chunk
from workers.metrics import WorkerMetrics

USAGE_HEADER = "x-mesh-usage"
LONGEST_CALL_S = 300.0
JSON = "application/json"


Endpoint = Callable[[Request], Awaitable[Response]]


def http_app(
    infer: Endpoint,
    calls: Calls,
    metrics: WorkerMetrics,
    readiness: Callable[[], Readiness],
    max_body_bytes: int,
) -> RequestLimits:
    """The application of a worker's HTTP port. infer: what answers POST /infer."""
    routes = [
        Route("/infer", infer, methods=["POST"]),
        *operations_routes(readiness, metrics.registry, calls.observe_load),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={MeshError: _mesh_error, HTTPException: _http_error, Exception: _unmapped_error},
    )
    return RequestLimits(app, max_body_bytes=max_body_bytes)


def infer_endpoint(calls: Calls) -> Endpoint:
    """Runs calls for whoever reaches the port."""

    async def infer(request: Request) -> Response:
        request_id = request_id_from(request.headers.get(metadata.REQUEST_ID))
        request.state.request_id = request_id
        sent = _terms(request.headers)
        body = await request.body()
        model = calls.model
        facts = facts_of(
            "http", model.name, "", request_id, sent=sent, deadline=deadline_after(LONGEST_CALL_S)
        )
        chunk = await while_connected(request, _answer(calls, facts, body))
        headers = {metadata.REQUEST_ID: request_id}
        if chunk.usage is not None:
            headers[USAGE_HEADER] = strict_json.dumps(json_payload.usage_to_json(chunk.usage)).decode()
        answer = strict_json.dumps(json_payload.output_to_json(chunk.output))
        return Response(answer, headers=headers, media_type=JSON)

    return infer


async def refused_infer(request: Request) -> Response:
    """Runs none: the port cannot tell a gateway from others, and the worker takes calls of no other."""
    request.state.request_id = request_id_from(request.headers.get(metadata.REQUEST_ID))
    raise UnsupportedError(
        "this worker takes calls by gRPC only, from a gateway with a certificate; "
        "its HTTP port has health and metrics"
    )


def _terms(headers: Mapping[str, str]) -> metadata.Metadata:
    """The terms of a call that its headers tell. Raises InvalidInputError."""
    sent: list[tuple[str, str | bytes]] = [
        (name, value) for name, value in headers.items() if name in _FORWARDED
    ]
    if metadata.DEFAULTS in headers:
        # In gRPC's own form of binary metadata: base64, whose padding may be missing.
        encoded = headers[metadata.DEFAULTS].rstrip("=")
        try:
            data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except ValueError:
            raise InvalidInputError(f"{metadata.DEFAULTS}: must be base64") from None
        sent.append((metadata.DEFAULTS, data))
    return tuple(sent)


async def _answer(calls: Calls, facts: CallFacts, body: bytes) -> Chunk:
    def read(task: payload_pb2.Task) -> payload_pb2.Payload:
        return json_payload.payload_from_json(task, strict_json.loads(body))

    async with contextlib.aclosing(calls.run(facts, read)) as chunks:
        return await whole(chunks)


_FORWARDED = {
    metadata.MAX_TOKENS,
    metadata.PRIORITY,
    metadata.TENANT,
    metadata.TOKEN_BUDGET,
    metadata.TRACE_PARENT,
    metadata.TRACE_STATE,
}


async def _mesh_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, MeshError):
        raise error
    return _response(http_errors.answer_of_error(error, _request_id(request)))


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return _response(http_errors.answer_of_status(error.status_code, error.detail, _request_id(request)))


async def _unmapped_error(request: Request, error: Exception) -> Response:
    return _response(http_errors.answer_of_error(unmapped(error), _request_id(request)))


def _request_id(request: Request) -> str:
    return str(getattr(request.state, "request_id", ""))


def _response(answer: tuple[int, http_errors.Headers, bytes]) -> Response:
    status, headers, body = answer
    return Response(body, status, {name.decode(): value.decode() for name, value in headers})
