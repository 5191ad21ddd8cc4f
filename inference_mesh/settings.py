"""How every process reads its settings: flags over `MESH_*` variables over defaults.

Owns the shared settings and the sentences for wrong ones. Each service adds its own class
in its own `settings.py`; nothing else reads the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from inference_mesh.channels import MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES_LIMIT


class SettingsError(Exception):
    """A setting is wrong; the message names key, value and what is allowed."""


class ServiceSettings(BaseSettings):
    """What every service can be told."""

    model_config = SettingsConfigDict(env_prefix="MESH_", extra="forbid", frozen=True)

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is logged."
    )
    log_format: Literal["json", "text"] = Field("json", description="JSON for machines, text for a terminal.")
    otlp_endpoint: str | None = Field(
        None, description="OTLP gRPC endpoint for traces, e.g. http://collector:4317; unset = no export."
    )
    trace_sample_ratio: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of the calls that are traced, of those whose caller has not decided that.",
    )
    host: str = Field("127.0.0.1", description="Address that the servers listen on; 0.0.0.0 in a pod.")
    http_port: int = Field(8080, ge=0, le=65535, description="HTTP port; 0 = any free one.")
    drain_delay_s: float = Field(
        0.0, ge=0, le=120, description="Seconds between NOT_SERVING and refusing calls at a stop."
    )
    grace_s: float = Field(
        30.0, ge=0, le=3600, description="Seconds that running calls get to finish at a stop."
    )
    max_message_bytes: int = Field(
        MAX_MESSAGE_BYTES,
        ge=1024,
        le=MAX_MESSAGE_BYTES_LIMIT,
        description="Largest message; the same on every hop.",
    )
    port_file: str | None = Field(
        None, description="File that gets the ports and the pid as JSON once listening."
    )


S = TypeVar("S", bound=ServiceSettings)


def load_settings(cls: type[S], overrides: Mapping[str, Any] | None = None) -> S:
    """The settings of a process, built once.

    overrides: flags that were given; None values are ignored. Raises SettingsError for an
    unknown `MESH_*` variable of this service's own prefix, or for a value out of range.
    """
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    _refuse_unknown_variables(cls, os.environ)
    try:
        return cls(**given)
    except ValidationError as error:
        raise SettingsError("; ".join(_sentences(cls, error))) from None


def _refuse_unknown_variables(cls: type[ServiceSettings], environment: Iterable[str]) -> None:
    prefix = str(cls.model_config.get("env_prefix", "MESH_")).upper()
    if prefix == "MESH_":
        return
    known = {f"{prefix}{name}".upper() for name in cls.model_fields}
    for name in sorted(environment):
        if name.upper().startswith(prefix) and name.upper() not in known:
            raise SettingsError(f"{name}: no such setting; allowed are {', '.join(sorted(known))}")


def _sentences(cls: type[ServiceSettings], error: ValidationError) -> Iterable[str]:
    prefix = str(cls.model_config.get("env_prefix", "MESH_"))
    for problem in error.errors():
        if not problem["loc"]:  # of several settings; the input is all of them, also passwords
            yield str(problem["msg"]).removeprefix("Value error, ")
            continue
        name = str(problem["loc"][0])
        variable = f"{prefix}{name}".upper()
        yield f"{name} (or {variable}) is {problem.get('input')!r}: {problem['msg']}"
