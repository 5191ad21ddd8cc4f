"""What the gateway can be told: flags over `MESH_GATEWAY_*` over defaults."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from inference_mesh.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """Settings of one gateway process."""

    model_config = SettingsConfigDict(env_prefix="MESH_GATEWAY_", extra="forbid", frozen=True)

    grpc_port: int = Field(50051, ge=0, le=65535, description="gRPC port; 0 = any free one.")
    models: Path = Field(Path("models.yaml"), description="The registry; read again when it changes.")
    keys: Path | None = Field(None, description="File of the API keys; read again when it changes.")
    auth: Literal["required", "optional", "open"] = Field(
        "optional",
        validate_default=True,
        description="required: a key always; optional: a key if a key file is given; open: no key. "
        "Without keys the gateway listens on loopback only.",
    )

    @field_validator("auth")
    @classmethod
    def _open_is_on_loopback(cls, value: str, info: ValidationInfo) -> str:
        is_open = value == "open" or (value == "optional" and info.data.get("keys") is None)
        host = info.data.get("host", "")
        if is_open and not _is_loopback(host):
            raise ValueError(
                f"callers without a key are let in on loopback only, and host is {host!r}; "
                "give a key file, or set auth to required"
            )
        return value

    @property
    def requires_key(self) -> bool:
        """Whether a call needs a key."""
        return self.auth == "required" or (self.auth == "optional" and self.keys is not None)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
