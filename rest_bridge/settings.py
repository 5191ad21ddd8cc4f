"""Settings of the REST bridge: `MESH_BRIDGE_*` variables and flags of the same names."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from inference_mesh.client_tls import ClientTls, client_tls
from inference_mesh.http_protocol import HttpLimits
from inference_mesh.metadata import says_who_calls
from inference_mesh.settings import ServiceSettings

FORWARDABLE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
INTERNAL = (
    "x-mesh-",
    "grpc-",
    "x-api-key",
    "x-request-",
    "authorization",
    "proxy-",
    "cookie",
    "content-",
    "trace",
    "host",
    "te",
    "user-agent",
    "connection",
)
"""Beginnings of names that no client sends to the gateway, beside those that say who calls: it would
believe them, or break on them."""


class BridgeSettings(ServiceSettings):
    """What the REST bridge can be told."""

    model_config = SettingsConfigDict(env_prefix="MESH_BRIDGE_", extra="forbid", frozen=True)

    gateway: str = Field(
        "127.0.0.1:50051", pattern=r"^[^\s:]+:\d{1,5}$", description="host:port of the gateway's gRPC server."
    )
    gateway_tls_ca: Path | None = Field(
        None,
        description="Certificate authority (PEM) of the gateway; absent = plaintext. For a public one the "
        "system's own, e.g. /etc/ssl/certs/ca-certificates.crt.",
    )
    gateway_tls_cert: Path | None = Field(
        None,
        description="Certificate (PEM) that the bridge shows a gateway with tls_client_ca. Callers without a "
        "credential of their own are its tenant: give it one that is no tenant's.",
    )
    gateway_tls_key: Path | None = Field(None, description="Private key (PEM) of that certificate.")
    gateway_tls_name: str = Field(
        "", description="Name that the gateway's certificate is checked for; empty = the host of gateway."
    )
    request_timeout_s: float = Field(
        300.0, gt=0, le=86_400, description="Time for a request that sends no x-request-timeout."
    )
    max_request_timeout_s: float = Field(
        3600.0, gt=0, le=86_400, description="Longest x-request-timeout that is accepted."
    )
    task_cache_s: float = Field(
        10.0, ge=0, le=3600, description="How long the task of a model is remembered for a caller."
    )
    cors_origins: str = Field(
        "", description="Origins whose pages may call the bridge, separated by commas; * = all; empty = none."
    )
    forward_headers: str = Field(
        "x-session-id",
        description="Headers of the client, separated by commas, that the gateway gets, e.g. those that a "
        "canary is sticky by.",
    )
    max_connections: int = Field(
        1024, ge=1, le=100_000, description="Open connections; at most half of the process's open files."
    )
    max_header_bytes: int = Field(16 * 1024, ge=1024, le=1024 * 1024, description="Head of one request.")
    header_timeout_s: float = Field(
        10.0, gt=0, le=300, description="Time for the head of a request, from the connection's start."
    )
    keep_alive_s: float = Field(
        65.0, gt=0, le=3600, description="Time that a connection may be idle between two requests."
    )
    write_timeout_s: float = Field(
        30.0, gt=0, le=3600, description="Time in which a reader must take at least 16 KiB of what waits."
    )
    body_timeout_s: float = Field(30.0, gt=0, le=3600, description="Time for the whole body of a request.")
    body_idle_timeout_s: float = Field(
        10.0, gt=0, le=3600, description="Longest gap between two pieces of a body."
    )
    max_total_body_bytes: int = Field(
        256 * 1024 * 1024, ge=1024, description="Bytes that the bodies of all open requests hold together."
    )

    @field_validator("forward_headers")
    @classmethod
    def _headers_may_pass(cls, value: str) -> str:
        for name in _names(value):
            if not FORWARDABLE.fullmatch(name) or name.startswith(INTERNAL) or name.endswith("-bin"):
                raise ValueError(
                    f"'{name[:64]}' must be a header's name that is free: not "
                    f"{', '.join(f'{prefix}*' for prefix in INTERNAL)}, and not *-bin"
                )
            if says_who_calls(name):
                raise ValueError(f"'{name}' says who calls, and that is never a client's to say")
        return value.lower()

    @model_validator(mode="after")
    def _tls_is_whole(self) -> BridgeSettings:
        _ = self.gateway_tls
        return self

    @property
    def gateway_tls(self) -> ClientTls | None:
        """TLS of the connection to the gateway; None = plaintext."""
        return client_tls(
            self.gateway_tls_ca,
            self.gateway_tls_cert,
            self.gateway_tls_key,
            self.gateway_tls_name,
            called="gateway_tls_{}",
        )

    @property
    def http_limits(self) -> HttpLimits:
        """The limits of connections."""
        return HttpLimits(
            max_connections=self.max_connections,
            max_header_bytes=self.max_header_bytes,
            header_timeout_s=self.header_timeout_s,
            keep_alive_s=self.keep_alive_s,
            write_timeout_s=self.write_timeout_s,
        )

    @property
    def forwarded_header_names(self) -> tuple[str, ...]:
        """The names of `forward_headers`, in lower case."""
        return _names(self.forward_headers)

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """The origins of `cors_origins`."""
        return _parts(self.cors_origins)


def _names(text: str) -> tuple[str, ...]:
    return _parts(text.lower())


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
