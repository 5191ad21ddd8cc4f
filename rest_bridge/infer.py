"""POST /api/infer: one contract for every model, answered as JSON or as events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from inference_mesh import http_errors, json_payload, strict_json, telemetry
from inference_mesh.asgi_limits import Receive, Scope, Send
from inference_mesh.errors import InvalidInputError, MeshError, PayloadMismatchError
from inference_mesh.request_ids import request_id_from
from inference_mesh.v1 import inference_pb2, payload_pb2
from rest_bridge import sse
from rest_bridge.client_watch import while_wanted
from rest_bridge.event_stream import EventStream
from rest_bridge.gateway_notes import notes_of
from rest_bridge.json_body import off_loop_if_large, read_object
from rest_bridge.task_cache import TaskCache
from rest_bridge.upstream import Caller, CallTerms, Upstream, caller_of

FIELDS = ("model", "payload", "version", "stream", "id")
MAX_NAME_LENGTH = 256


@dataclass(frozen=True)
class InferBody:
    """The body of a request, its payload still in the form of the model's task."""

    model: str
    payload: object
    version: str
    is_stream: bool
    request_id: str
    size_bytes: int


def infer_body(document: Mapping[str, object], size_bytes: int) -> InferBody:
    """The body of a JSON object. Raises InvalidInputError naming the field."""
    for key in document:
        if key not in FIELDS:
            raise InvalidInputError(f"unknown key '{key[:64]}'; allowed are {', '.join(FIELDS)}")
    if document.get("payload") is None:
        raise InvalidInputError("'payload' is required")
    is_stream = document.get("stream", False)
    if not isinstance(is_stream, bool):
        raise InvalidInputError("'stream' must be true or false")
    model = _name(document, "model")
    if not model:
        raise InvalidInputError("'model' is required: the name of a model")
    version, request_id = _name(document, "version"), _name(document, "id")
    return InferBody(model, document["payload"], version, is_stream, request_id, size_bytes)


class InferEndpoint:
    """The route, as an ASGI application of its own: it must see a client that leaves."""

    def __init__(
        self,
        upstream: Upstream,
        tasks: TaskCache,
        terms: CallTerms,
        events: EventStream,
        cut_off: asyncio.Event,
    ) -> None:
        """cut_off: set when running requests must end now."""
        self._upstream = upstream
        self._tasks = tasks
        self._terms = terms
        self._events = events
        self._cut_off = cut_off

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises MeshError for what fails before the answer has begun."""
        request = Request(scope, receive)
        caller = caller_of(request.headers, self._terms, notes_of(scope))
        document, size_bytes = await read_object(request)
        body = infer_body(document, size_bytes)
        if body.request_id:
            telemetry.current_request_id.set(request_id_from(body.request_id))
        if body.is_stream:
            pieces, notes = self._pieces(body, caller), caller.notes
            await self._events.answer(pieces, InferEvents(), notes, scope, receive, send)
            return
        async with while_wanted(receive, self._cut_off):
            response = await self._run(body, caller)
        answer = await off_loop_if_large(response.ByteSize(), answer_of, response)
        await answer(scope, receive, send)

    async def _run(self, body: InferBody, caller: Caller) -> inference_pb2.InferResponse:
        request = inference_pb2.InferRequest(
            model=body.model,
            version=body.version,
            request_id=telemetry.current_request_id.get(),
            payload=await self._payload(body, caller),
        )
        try:
            return await self._upstream.infer(request, caller)
        except PayloadMismatchError:
            self._tasks.forget(body.model, caller)
            raise

    async def _pieces(
        self, body: InferBody, caller: Caller
    ) -> AsyncGenerator[inference_pb2.InferStreamResponse, None]:
        request = inference_pb2.InferStreamRequest(
            model=body.model,
            version=body.version,
            request_id=telemetry.current_request_id.get(),
            payload=await self._payload(body, caller),
        )
        try:
            async with aclosing(self._upstream.infer_stream(request, caller)) as pieces:
                async for piece in pieces:
                    yield piece
        except PayloadMismatchError:
            self._tasks.forget(body.model, caller)
            raise

    async def _payload(self, body: InferBody, caller: Caller) -> payload_pb2.Payload:
        task = await self._tasks.task_of(body.model, caller)
        return await off_loop_if_large(body.size_bytes, json_payload.payload_from_json, task, body.payload)


class InferEvents:
    """The events of `POST /api/infer`: a document for each piece, then [DONE]."""

    def events_of(self, piece: inference_pb2.InferStreamResponse) -> bytes:
        """One piece as an event."""
        return event_of(piece)

    def end(self) -> bytes:
        """Says that nothing is missing."""
        return sse.DONE

    def failure(self, error: MeshError, delivered_tokens: int | None) -> bytes:
        """The event named "error", with the body that an answer would have had."""
        request_id = telemetry.current_request_id.get()
        return sse.error_event(
            http_errors.document_of_error(error, request_id, delivered_tokens=delivered_tokens)
        )


def answer_of(response: inference_pb2.InferResponse) -> Response:
    """The whole result as an answer."""
    document = {
        "id": response.request_id or telemetry.current_request_id.get(),
        "model": response.model,
        "version": response.version,
        "output": json_payload.output_to_json(response.output),
        "usage": json_payload.usage_to_json(response.usage),
        "timing": json_payload.timing_to_json(response.timing),
    }
    return Response(strict_json.dumps(document), media_type="application/json")


def event_of(piece: inference_pb2.InferStreamResponse) -> bytes:
    """One piece as an event: the first names the model, the last has usage and timing."""
    document: dict[str, object] = {}
    if piece.model:
        request_id = piece.request_id or telemetry.current_request_id.get()
        document |= {"id": request_id, "model": piece.model, "version": piece.version}
    if piece.HasField("output"):
        document["output"] = json_payload.output_to_json(piece.output)
    if piece.HasField("usage"):
        document["usage"] = json_payload.usage_to_json(piece.usage)
        document["timing"] = json_payload.timing_to_json(piece.timing)
    return sse.event(document)


def _name(document: Mapping[str, object], field: str) -> str:
    """A short text; empty where the field is absent or null."""
    value = document.get(field)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_NAME_LENGTH:
        raise InvalidInputError(f"'{field}' must be a text of at most {MAX_NAME_LENGTH} characters")
    return value
