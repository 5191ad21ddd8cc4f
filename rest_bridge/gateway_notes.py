"""What the gateway says beside its answer to one request, and the HTTP headers that it becomes.

Owns which of the gateway's metadata a client may see. Everything else stays inside.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

from inference_mesh import limit_standing
from inference_mesh.metadata import CACHE, DECISION, DELIVERED, LIMITS, value_of
from inference_mesh.v1 import payload_pb2
from rest_bridge.limit_headers import Headers, limit_headers

SCOPE_KEY = "rest_bridge.gateway_notes"
HEADERS = (DECISION, CACHE)
"""Passed on as they are."""


class GatewayNotes:
    """The notes of one request: those of its initial metadata, then those of its trailers."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self.usage = payload_pb2.Usage()
        """What the call used, as far as the gateway has told it."""
        self.broken_by = ""
        """Name of the code that a stream ended with after its answer had begun."""

    def take(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
        """Note what of a call's metadata concerns the client; later ones replace earlier ones."""
        pairs = tuple(metadata or ())
        for name in (*HEADERS, LIMITS, DELIVERED):
            value = value_of(pairs, name)
            if value is not None and value.isascii() and value.isprintable():
                self._values[name] = value

    @property
    def delivered(self) -> int | None:
        """Tokens (else messages) of a stream that the gateway sent; None if it has not said."""
        value = self._values.get(DELIVERED, "")
        return int(value) if value.isdecimal() and len(value) < 10 else None

    @property
    def decision(self) -> str:
        """How the gateway served the call; empty if it has not said."""
        return self._values.get(DECISION, "")

    def headers(self) -> Headers:
        """The headers of the answer, as far as the gateway has told them."""
        told = [(name.encode(), self._values[name].encode()) for name in HEADERS if name in self._values]
        return told + limit_headers(limit_standing.decode(self._values.get(LIMITS)))


def notes_of(scope: MutableMapping[str, Any]) -> GatewayNotes:
    """The notes of a request, one and the same wherever it is asked for."""
    notes: GatewayNotes = scope.setdefault(SCOPE_KEY, GatewayNotes())
    return notes
