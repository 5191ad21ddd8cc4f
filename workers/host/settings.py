"""What a worker host can be told."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from inference_mesh.settings import ServiceSettings


class HostSettings(ServiceSettings):
    """Settings of `python -m workers.host`."""

    model_config = SettingsConfigDict(env_prefix="MESH_HOST_", extra="forbid", frozen=True)

    models: Path = Field(description="YAML file with the models: see docs/engines.md.")
    memory_bytes: int = Field(
        0,
        ge=0,
        description="Memory that the loaded models may take together; 0 = nine tenths of the machine's or "
        "the container's.",
    )
    max_loaded: int = Field(0, ge=0, le=10_000, description="Models in memory at a time; 0 = no limit.")
    max_waiting: int = Field(
        64, ge=1, le=100_000, description="Calls that may wait for one model to load; more are refused."
    )
    load_timeout_s: float = Field(
        600.0, gt=0, le=86_400, description="Longest load of a model; one that takes longer has failed."
    )
    idle_unload_s: float = Field(
        0.0, ge=0, le=1e6, description="A model that nobody asked for this long is unloaded; 0 = never."
    )
    retry_load_s: float = Field(
        30.0, gt=0, le=86_400, description="A model that did not load is tried again after this, not before."
    )
    grpc_port: int = Field(50051, ge=0, le=65535, description="gRPC port; 0 = any free one.")
    tls_cert: Path | None = Field(
        None, description="Certificate chain (PEM) of the gRPC port; absent = no TLS."
    )
    tls_key: Path | None = Field(None, description="Private key (PEM) of that certificate.")
    tls_client_ca: Path | None = Field(
        None,
        description="Certificate authority (PEM) of the gateways: who shows none of it cannot call.",
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> HostSettings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        return self
