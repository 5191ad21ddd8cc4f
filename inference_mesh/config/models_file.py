"""models.yaml, the registry: which models there are and where their replicas answer.

Owns the schema and its validation. The file is either a bare list of entries or
`{version: 1, models: [...]}`; the smallest entry is a name and a service.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from inference_mesh.config.errors import ConfigError, Problem
from inference_mesh.config.yaml_document import Path, YamlDocument

GRPC_PORT = 50051
HTTP_PORT = 8080
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>\d{1,5}))?")

ModelName = Annotated[str, Field(pattern=rf"^{MODEL_NAME.pattern}$")]


class Target(NamedTuple):
    """A host, or a headless service's name that resolves to several, and a port."""

    host: str
    port: int


class ModelEntry(BaseModel):
    """One model of the registry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ModelName = Field(description="Unique name: a-z, 0-9, '-', '.'; 1 to 63 characters.")
    service: str | None = Field(
        None, description="host[:port] of the service; a headless one resolves to its pods."
    )
    endpoints: tuple[str, ...] = Field((), description="host:port of each replica, instead of a service.")
    path: str | None = Field(None, description="Path of an HTTP service, e.g. /infer; absent = gRPC.")
    port: int | None = Field(None, ge=1, le=65535, description="Port, if the service names none.")
    task: Literal["generate", "embed", "rerank", "classify", "tensors", "json"] | None = Field(
        None, description="What the model does; absent = the worker is asked."
    )
    aliases: tuple[ModelName, ...] = Field((), description="Other names for it.")
    version: str = Field("", max_length=64, description="Version that its replicas serve.")
    timeout_s: float = Field(
        300.0, gt=0, le=86_400, description="Longest call; a deadline of the caller can only be earlier."
    )

    @field_validator("service")
    @classmethod
    def _service_is_host_port(cls, value: str | None) -> str | None:
        if value is not None:
            _host_port(value)
        return value

    @field_validator("endpoints")
    @classmethod
    def _endpoints_are_host_port(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for endpoint in value:
            if _host_port(endpoint)[1] is None:
                raise ValueError(f"endpoint '{endpoint}' must be host:port")
        return value

    @field_validator("path")
    @classmethod
    def _path_is_absolute(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"/[A-Za-z0-9_.~/%-]*", value):
            raise ValueError("must start with '/' and be a plain path")
        return value

    @model_validator(mode="after")
    def _one_source_of_endpoints(self) -> ModelEntry:
        if (self.service is None) == (not self.endpoints):
            raise ValueError("exactly one of service and endpoints is required")
        if self.task == "json" and self.path is None:
            raise ValueError("task json needs a path: it is for HTTP services")
        if self.path is not None and self.task not in (None, "json"):
            raise ValueError("with a path the task is json: an HTTP service takes and answers JSON")
        return self

    @property
    def protocol(self) -> Literal["grpc", "http"]:
        """How its replicas are called: HTTP where the entry has a path."""
        return "grpc" if self.path is None else "http"

    @property
    def targets(self) -> tuple[Target, ...]:
        """Where to look for replicas; each may resolve to several addresses."""
        default = self.port or (GRPC_PORT if self.protocol == "grpc" else HTTP_PORT)
        named = self.endpoints or (self.service or "",)
        return tuple(Target(host, port or default) for host, port in map(_host_port, named))


class ModelsFile(BaseModel):
    """The whole registry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    models: tuple[ModelEntry, ...]


def parse_models(text: str, *, source: str = "models.yaml") -> ModelsFile:
    """The registry of a file's text.

    Raises ConfigError with every problem: not YAML, unknown keys, values out of range, a name
    or alias that stands twice, no model at all.
    """
    document = YamlDocument(text, source)
    if isinstance(document.value, list):
        document.nest_under("models")
    if not isinstance(document.value, dict):
        raise ConfigError(source, (Problem("", "must be a list of models, or {version: 1, models: [...]}"),))
    parsed = document.validated(ModelsFile, document.value)
    problems = [document.problem(path, message) for path, message in _conflicts(parsed)]
    if not parsed.models:
        problems.append(document.problem(("models",), "has no model; at least one is required"))
    if problems:
        raise ConfigError(source, tuple(problems))
    return parsed


def _conflicts(parsed: ModelsFile) -> list[tuple[Path, str]]:
    """Names that stand for two models, or twice for one."""
    owner: dict[str, int] = {}
    found: list[tuple[Path, str]] = []
    for index, entry in enumerate(parsed.models):
        fields = [("name",), *(("aliases", position) for position in range(len(entry.aliases)))]
        for field, name in zip(fields, (entry.name, *entry.aliases), strict=True):
            if name in owner:
                found.append(
                    (("models", index, *field), f"'{name}' already stands for models[{owner[name]}]")
                )
            owner.setdefault(name, index)
    return found


def _host_port(text: str) -> tuple[str, int | None]:
    match = _HOST_PORT.fullmatch(text)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port is not None and not 1 <= port <= 65535):
        raise ValueError(f"'{text[:128]}' must be host or host:port, the port 1 to 65535")
    return match["host"].strip("[]"), port
