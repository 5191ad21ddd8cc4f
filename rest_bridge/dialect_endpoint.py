"""A route of a foreign dialect: its body becomes calls of ours, their results its answer.

Owns the way, the same for every dialect. A dialect is a pure function from the fields of a body
to `Asked`, which also knows how the answer looks.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TypeAlias

from starlette.requests import Request

from inference_mesh import telemetry
from inference_mesh.asgi_limits import Receive, Scope, Send
from inference_mesh.v1 import inference_pb2, payload_pb2
from rest_bridge.client_watch import while_wanted
from rest_bridge.event_stream import EventForm, EventStream, Pieces
from rest_bridge.fields import Fields
from rest_bridge.gateway_notes import notes_of
from rest_bridge.json_body import answer, off_loop_if_large, read_object
from rest_bridge.upstream import Caller, CallTerms, Upstream, caller_of


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a request asks for, and the form of its answer.

    payloads: at least one; each becomes a call of its own, under the caller's limits. document:
    the answer of all responses, in the order of the payloads. events: the form of a streamed
    answer; None = the request wants it whole.
    """

    model: str
    payloads: Sequence[payload_pb2.Payload]
    document: Callable[[Sequence[inference_pb2.InferResponse]], object]
    events: EventForm | None = None
    version: str = ""


Dialect: TypeAlias = Callable[[Fields, str], Asked]
"""Reads the fields of a body, with those of the path, under the request's id; raises MeshError."""


class DialectEndpoint:
    """The route, as an ASGI application of its own: it must see a client that leaves."""

    def __init__(
        self,
        dialect: Dialect,
        upstream: Upstream,
        terms: CallTerms,
        events: EventStream,
        cut_off: asyncio.Event,
    ) -> None:
        """cut_off: set when running requests must end now."""
        self._read = dialect
        self._upstream = upstream
        self._terms = terms
        self._events = events
        self._cut_off = cut_off

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises MeshError for what fails before the answer has begun."""
        request = Request(scope, receive)
        caller = caller_of(request.headers, self._terms, notes_of(scope))
        document, size_bytes = await read_object(request)
        asked = await off_loop_if_large(size_bytes, self._asked, {**document, **scope["path_params"]})
        if asked.events is not None:
            pieces = self._pieces(asked, caller)
            await self._events.answer(pieces, asked.events, caller.notes, scope, receive, send)
            return
        async with while_wanted(receive, self._cut_off):
            responses = await self._run(asked, caller)
        size_bytes = sum(response.ByteSize() for response in responses)
        response = await off_loop_if_large(size_bytes, lambda: answer(asked.document(responses)))
        await response(scope, receive, send)

    def _asked(self, document: Mapping[str, object]) -> Asked:
        return self._read(Fields(document), telemetry.current_request_id.get())

    async def _run(self, asked: Asked, caller: Caller) -> list[inference_pb2.InferResponse]:
        """The responses one after the other: one caller's request takes one place in the queues."""
        request_id = telemetry.current_request_id.get()
        requests = [
            inference_pb2.InferRequest(
                model=asked.model, version=asked.version, request_id=request_id, payload=payload
            )
            for payload in asked.payloads
        ]
        return [await self._upstream.infer(request, caller) for request in requests]

    async def _pieces(self, asked: Asked, caller: Caller) -> Pieces:
        """The pieces of all calls; `index` counts through the answers of all of them."""
        first_index = 0
        for payload in asked.payloads:
            request = inference_pb2.InferStreamRequest(
                model=asked.model,
                version=asked.version,
                request_id=telemetry.current_request_id.get(),
                payload=payload,
            )
            async with aclosing(self._upstream.infer_stream(request, caller)) as pieces:
                async for piece in pieces:
                    if first_index and piece.output.HasField("generate"):
                        piece.output.generate.index += first_index
                    yield piece
            first_index += max(1, payload.generate.n)
