"""Which metadata passes the gateway, in either direction. Pure.

A client's own `x-mesh-*` never reaches a worker: what stands there is the policy's decision.
Credentials end here as well, and whatever a client says of who it is.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from inference_mesh.error_status import STATUS_DETAILS
from inference_mesh.metadata import (
    API_KEY,
    AUTHORIZATION,
    MESH_PREFIX,
    REQUEST_ID,
    RETRY_PUSHBACK,
    TRACE_PARENT,
    TRACE_STATE,
    Metadata,
    says_who_calls,
    value_of,
)

MAX_PAIRS = 32
MAX_TOTAL_BYTES = 4096

Pairs = tuple[tuple[str, str | bytes], ...]

OUR_OWN = frozenset({REQUEST_ID, TRACE_PARENT, TRACE_STATE})
CREDENTIALS = frozenset({AUTHORIZATION, API_KEY, "cookie", "proxy-authorization"})
OF_THE_HOP = frozenset({"user-agent", "te", "content-type", "host", "date", "server", "connection"})
RESERVED_PREFIX = "grpc-"
RESERVED_BUT_OURS = frozenset({STATUS_DETAILS, RETRY_PUSHBACK})


def client_metadata_for_worker(metadata: Metadata) -> Pairs:
    """What of a client's metadata a worker gets: plain texts, bounded in number and size.

    Dropped: credentials, names that say who calls, `x-mesh-*`, `grpc-*`, binary values, and what is
    past the bounds.
    """
    kept: list[tuple[str, str | bytes]] = []
    size_bytes = 0
    for name, value in metadata:
        if not isinstance(value, str) or not _is_clients_to_send(name):
            continue
        size_bytes += len(name) + len(value)
        if len(kept) == MAX_PAIRS or size_bytes > MAX_TOTAL_BYTES:
            break
        kept.append((name, value))
    return tuple(kept)


def worker_metadata_for_client(metadata: Iterable[tuple[str, str | bytes]] | None) -> Pairs:
    """What of a worker's metadata a client gets: everything that is not the transport's own."""
    return tuple((name, value) for name, value in metadata or () if _is_workers_to_send(name))


def credential_of(metadata: Metadata) -> str | None:
    """The API key: of `authorization` as Bearer or as a Basic password, else of `x-api-key`."""
    scheme, _, value = (value_of(metadata, AUTHORIZATION) or "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        return _basic_password(value.strip())
    return value_of(metadata, API_KEY)


def _is_clients_to_send(name: str) -> bool:
    if name.startswith((MESH_PREFIX, RESERVED_PREFIX, ":")) or says_who_calls(name):
        return False
    return name not in OUR_OWN and name not in CREDENTIALS and name not in OF_THE_HOP


def _is_workers_to_send(name: str) -> bool:
    if name.startswith(RESERVED_PREFIX):
        return name in RESERVED_BUT_OURS
    return not name.startswith(":") and name not in OF_THE_HOP


def _basic_password(value: str) -> str | None:
    try:
        return base64.b64decode(value, validate=True).decode("utf-8").partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return None
