"""What the gateway can be told: flags over `MESH_GATEWAY_*` over defaults."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from inference_mesh.client_tls import ClientTls, client_tls
from inference_mesh.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """Settings of one gateway process."""

    model_config = SettingsConfigDict(env_prefix="MESH_GATEWAY_", extra="forbid", frozen=True)

    grpc_port: int = Field(50051, ge=0, le=65535, description="gRPC port; 0 = any free one.")
    models: Path = Field(Path("models.yaml"), description="The registry; read again when it changes.")
    keys: Path | None = Field(None, description="File of the API keys; read again when it changes.")
    tenants: Path | None = Field(
        None, description="File of the tenants and token issuers; read again when it changes."
    )
    tls_cert: Path | None = Field(
        None, description="Certificate chain (PEM) of the gRPC port; absent = no TLS."
    )
    tls_key: Path | None = Field(None, description="Private key (PEM) of that certificate.")
    tls_client_ca: Path | None = Field(
        None,
        description="Certificate authority (PEM) of client certificates. Every caller must then show one, "
        "also the bridge and those with a key or token; absent = none is asked for. "
        "Its names may be a tenant's.",
    )
    max_connection_age_s: float = Field(
        300.0,
        gt=0,
        le=86_400,
        description="After so long, a tenth more or less, a client's connection takes no new calls, and the "
        "client opens another, by which it finds gateways that came since. Running calls go on.",
    )
    worker_tls_ca: Path | None = Field(
        None,
        description="Certificate authority (PEM) of the workers, which are then called with TLS; absent = "
        "plaintext. Read again when it changes, as the two below.",
    )
    worker_tls_cert: Path | None = Field(
        None, description="Certificate (PEM) that the gateway shows workers with tls_client_ca."
    )
    worker_tls_key: Path | None = Field(None, description="Private key (PEM) of that certificate.")
    worker_tls_name: str = Field(
        "",
        description="Name that the certificate of every worker is checked for; empty = the registry's: the "
        "service, or the host of the endpoint.",
    )
    redis_url: str | None = Field(
        None,
        validation_alias=AliasChoices("redis_url", "MESH_GATEWAY_REDIS_URL", "MESH_REDIS_URL"),
        description="Redis that all gateways share limits and canaries by, e.g. redis://redis:6379/0; also "
        "MESH_REDIS_URL. Unset = each gateway keeps its own.",
    )
    replicas: int = Field(
        1, ge=1, le=1000, description="Gateways that share the limits; each one's share while Redis is gone."
    )
    gateway_id: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        min_length=1,
        max_length=128,
        description="Name of this process among the gateways; unset = host and process id.",
    )
    usage_log: Path | None = Field(
        None, description="File that gets one JSON line for each call, to bill from; absent = none."
    )
    tenant_label_limit: int = Field(
        50, ge=0, le=10_000, description="Tenants with metrics of their own; further ones are 'other'."
    )
    tenant_model_label_limit: int = Field(
        1000,
        ge=0,
        le=100_000,
        description="Pairs of tenant and model with metrics of their own; of further ones the model is "
        "'other'.",
    )
    auth: Literal["required", "optional", "open"] = Field(
        "optional",
        validate_default=True,
        description="required: a credential always; optional: one if a file of keys or tenants is given; "
        "open: none. Without credentials the gateway listens on loopback only.",
    )

    @field_validator("auth")
    @classmethod
    def _open_is_on_loopback(cls, value: str, info: ValidationInfo) -> str:
        has_callers = any(info.data.get(name) is not None for name in ("keys", "tenants"))
        is_open = value == "open" or (value == "optional" and not has_callers)
        host = info.data.get("host", "")
        if is_open and not _is_loopback(host):
            raise ValueError(
                f"callers without a key are let in on loopback only, and host is {host!r}; "
                "give a key file, or set auth to required"
            )
        return value

    @model_validator(mode="after")
    def _tls_is_whole(self) -> GatewaySettings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        _ = self.worker_tls
        return self

    @property
    def worker_tls(self) -> ClientTls | None:
        """TLS of the connections to workers; None = plaintext."""
        return client_tls(
            self.worker_tls_ca,
            self.worker_tls_cert,
            self.worker_tls_key,
            self.worker_tls_name,
            called="worker_tls_{}",
        )

    @property
    def requires_key(self) -> bool:
        """Whether a call needs a credential."""
        has_callers = self.keys is not None or self.tenants is not None
        return self.auth == "required" or (self.auth == "optional" and has_callers)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
