"""Names of the metadata that the mesh's processes exchange, and how they are read.

Owns the names and the rule which of them a client may send. Does not own what they carry.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

REQUEST_ID = "x-request-id"
MODEL = "x-mesh-model"
VERSION = "x-mesh-version"
TENANT = "x-mesh-tenant"
MAX_TOKENS = "x-mesh-max-tokens"
PROMPT_TOKENS = "x-mesh-prompt-tokens"
USAGE = "x-mesh-usage-bin"
DECISION = "x-mesh-decision"
ORCA_LOAD_REPORT = "endpoint-load-metrics-bin"
LOAD_REPORT = "x-mesh-load-bin"
"""The same bytes under both names: grpcio keeps the standard one from applications (ADR 0004)."""
RETRY_PUSHBACK = "grpc-retry-pushback-ms"
AUTHORIZATION = "authorization"
API_KEY = "x-api-key"
TRACE_PARENT = "traceparent"
TRACE_STATE = "tracestate"

MESH_PREFIX = "x-mesh-"


def value_of(metadata: Iterable[tuple[str, str | bytes]] | None, name: str) -> str | None:
    """The first text value of a name, or None."""
    for key, value in metadata or ():
        if key == name and isinstance(value, str):
            return value
    return None


def bytes_of(metadata: Iterable[tuple[str, str | bytes]] | None, name: str) -> bytes | None:
    """The first binary value of a `-bin` name, or None."""
    for key, value in metadata or ():
        if key == name and isinstance(value, bytes):
            return value
    return None
