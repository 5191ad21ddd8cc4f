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
TOKEN_BUDGET = "x-mesh-token-budget"  # noqa: S105  # tokens of text
"""Most tokens that a request may use, prompt and answer together: what the gateway reserved. A worker
whose prompt fits ends the answer there (LENGTH_REASON_TOKEN_BUDGET), else refuses it."""
DEFAULTS = "x-mesh-defaults-bin"
"""A serialised payload.Generate whose max_tokens and sampling stand in for what a request leaves out."""
PRIORITY = "x-mesh-priority"
""""high", "normal" or "bulk"."""
PROMPT_TOKENS = "x-mesh-prompt-tokens"
USAGE = "x-mesh-usage-bin"
DECISION = "x-mesh-decision"
DELIVERED = "x-mesh-delivered"
"""Trailer of a stream: tokens that the caller has got, for generate; messages, for the rest."""
LIMITS = "x-mesh-limits"
"""How the caller's limits stand after this call; form: `inference_mesh.limit_standing`."""
CACHE = "x-mesh-cache"
""""hit" or "miss", for a model with a response cache."""
ORCA_LOAD_REPORT = "endpoint-load-metrics-bin"
LOAD_REPORT = "x-mesh-load-bin"
"""The same bytes under both names: grpcio keeps the standard one from applications (ADR 0004)."""
RETRY_PUSHBACK = "grpc-retry-pushback-ms"
AUTHORIZATION = "authorization"
API_KEY = "x-api-key"
TRACE_PARENT = "traceparent"
TRACE_STATE = "tracestate"

MESH_PREFIX = "x-mesh-"
IDENTITY_PREFIXES = (
    "forwarded",
    "impersonate-",
    "remote-",
    "ssl-client-",
    "x-account",
    "x-anonymous-consumer",
    "x-amzn-oidc-",
    "x-auth",
    "x-client-cert",
    "x-consumer",
    "x-credential",
    "x-email",
    "x-forwarded-",
    "x-goog-",
    "x-group",
    "x-identity",
    "x-jwt",
    "x-ms-client-principal",
    "x-org",
    "x-principal",
    "x-real-ip",
    "x-remote-",
    "x-role",
    "x-scope",
    "x-ssl-",
    "x-subject",
    "x-tenant",
    "x-user",
    "x-webauth-",
)
"""Beginnings of names by which proxies tell who calls. From a client they are a claim, not a fact."""


def says_who_calls(name: str) -> bool:
    """Whether a header or metadata of this name could be taken for an identity; name: lower case.

    Some servers take '_' and '-' in a header's name for the same.
    """
    return name.replace("_", "-").startswith(IDENTITY_PREFIXES)


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
