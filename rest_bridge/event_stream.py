"""An answer as server-sent events, whatever dialect they are in.

Owns the order: the head with the first event, events as pieces come, an end that says whether
the answer is whole. A stream that breaks never looks complete.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol, TypeAlias

from inference_mesh.asgi_limits import Receive, Scope, Send
from inference_mesh.errors import MeshError
from inference_mesh.tracing import exemplar
from inference_mesh.v1 import inference_pb2
from rest_bridge import sse
from rest_bridge.client_watch import while_wanted
from rest_bridge.gateway_notes import GatewayNotes
from rest_bridge.json_body import off_loop_if_large
from rest_bridge.metrics import BridgeMetrics
from rest_bridge.problem import mesh_error_of
from rest_bridge.request_context import route_of

Pieces: TypeAlias = AsyncGenerator[inference_pb2.InferStreamResponse, None]


class EventForm(Protocol):
    """How one answer looks as events; it may keep what it has said so far."""

    def events_of(self, piece: inference_pb2.InferStreamResponse) -> bytes:
        """The events of a piece; empty = it has none."""

    def end(self) -> bytes:
        """What ends an answer that is whole."""

    def failure(self, error: MeshError, delivered_tokens: int | None) -> bytes:
        """What ends an answer that broke. delivered_tokens: that the client has; None = unknown."""


class EventStream:
    """Answers requests with events."""

    def __init__(self, metrics: BridgeMetrics, cut_off: asyncio.Event) -> None:
        """cut_off: set when running requests must end now."""
        self._metrics = metrics
        self._cut_off = cut_off

    async def answer(
        self, pieces: Pieces, form: EventForm, notes: GatewayNotes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer one request; what fails before the first event is raised."""
        started = time.monotonic()
        is_begun = False
        delivered_tokens = 0
        try:
            async with while_wanted(receive, self._cut_off), aclosing(pieces):
                async for piece in pieces:
                    events = await off_loop_if_large(piece.ByteSize(), form.events_of, piece)
                    if events and not is_begun:
                        is_begun = True
                        await send({"type": "http.response.start", "status": 200, "headers": sse.HEADERS})
                        seconds = time.monotonic() - started
                        self._metrics.first_event_seconds.labels(route_of(scope)).observe(seconds, exemplar())
                    if events:
                        await send({"type": "http.response.body", "body": events, "more_body": True})
                    delivered_tokens += len(piece.output.generate.tokens)
        except Exception as error:
            if not is_begun:
                raise
            mesh_error = mesh_error_of(error)
            notes.broken_by = mesh_error.code.name
            self._metrics.broken_streams.labels(mesh_error.code.name).inc()
            body = form.failure(mesh_error, delivered_tokens or notes.delivered)
            await send({"type": "http.response.body", "body": body})
            return
        await send({"type": "http.response.body", "body": form.end()})
