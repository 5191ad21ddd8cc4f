"""models.yaml, the registry: which models there are and where their replicas answer.

Owns the schema of an entry and what must hold between entries. The file is either a bare list
of entries or `{version: 1, models: [...]}`; the smallest entry is a name and a service.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from inference_mesh.config.errors import ConfigError, Problem
from inference_mesh.config.limits import LimitsSpec
from inference_mesh.config.model_traffic import (
    CacheSpec,
    CanarySpec,
    QueueSpec,
    Replicas,
    ShadowSpec,
    TimeLimits,
    VersionEntry,
    host_port,
)
from inference_mesh.config.yaml_document import Path, YamlDocument

GRPC_PORT = 50051
HTTP_PORT = 8080
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")

ModelName = Annotated[str, Field(pattern=rf"^{MODEL_NAME.pattern}$")]


class Target(NamedTuple):
    """A host, or a headless service's name that resolves to several, and a port."""

    host: str
    port: int


class Variant(NamedTuple):
    """One version of a model and where it answers. version: empty = the registry names none."""

    version: str
    targets: tuple[Target, ...]
    weight: float
    is_by_name: bool


class ModelEntry(Replicas):
    """One model of the registry."""

    name: ModelName = Field(description="Unique name: a-z, 0-9, '-', '.'; 1 to 63 characters.")
    path: str | None = Field(None, description="Path of an HTTP service, e.g. /infer; absent = gRPC.")
    port: int | None = Field(None, ge=1, le=65535, description="Port, if the service names none.")
    task: Literal["generate", "embed", "rerank", "classify", "tensors", "json"] | None = Field(
        None, description="What the model does; absent = the worker is asked."
    )
    aliases: tuple[ModelName, ...] = Field((), description="Other names for it.")
    version: str = Field("", max_length=64, description="Version that its replicas serve.")
    versions: tuple[VersionEntry, ...] = Field(
        (), max_length=50, description="Several versions at once, instead of service, endpoints and version."
    )
    canary: CanarySpec | None = Field(None, description="The version that gets traffic step by step.")
    shadow: ShadowSpec | None = Field(None, description="Who gets copies of the traffic.")
    fallback: tuple[ModelName, ...] = Field(
        (), max_length=10, description="Models that are asked instead, in order, before the first byte."
    )
    tenants: tuple[str, ...] | None = Field(
        None, description="Tenants that may use it; absent = every tenant whose own list has it."
    )
    limits: LimitsSpec = Field(default_factory=LimitsSpec, description="Limits of all callers together.")
    max_tokens: int | None = Field(
        None, ge=1, le=10_000_000, description="Longest answer in tokens; a longer wish is clamped."
    )
    timeout_s: float = Field(
        300.0, gt=0, le=86_400, description="Longest call; a deadline of the caller can only be earlier."
    )
    timeouts: TimeLimits = Field(default_factory=TimeLimits, description="When a replica counts as hung.")
    queue: QueueSpec = Field(default_factory=QueueSpec, description="The calls that wait.")
    resume: bool = Field(
        True, description="Whether a broken stream of greedy or seeded generation goes on elsewhere."
    )
    cache: CacheSpec | None = Field(None, description="Keeps answers; absent = none.")

    @field_validator("path")
    @classmethod
    def _path_is_absolute(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"/[A-Za-z0-9_.~/%-]*", value):
            raise ValueError("must start with '/' and be a plain path")
        return value

    @model_validator(mode="after")
    def _one_source_of_endpoints(self) -> ModelEntry:
        if [self.service is not None, bool(self.endpoints), bool(self.versions)].count(True) != 1:
            raise ValueError("exactly one of service, endpoints and versions is required")
        if self.versions and self.version:
            raise ValueError("version stands in each of the versions")
        if self.task == "json" and self.path is None:
            raise ValueError("task json needs a path: it is for HTTP services")
        if self.path is not None and self.task not in (None, "json"):
            raise ValueError("with a path the task is json: an HTTP service takes and answers JSON")
        return self

    @model_validator(mode="after")
    def _versions_fit(self) -> ModelEntry:
        names = [one.version for one in self.versions]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"version '{name}' stands twice")
        if self.canary is not None and self.canary.version not in names:
            raise ValueError(f"canary: version '{self.canary.version}' is not one of the versions")
        if self.canary is not None and len(names) < 2:
            raise ValueError("canary: needs a second version to be compared with")
        stable = [one for one in self.versions if self.canary is None or one.version != self.canary.version]
        if self.versions and not any(one.weight for one in stable) and len(stable) > 1:
            raise ValueError("versions: at least one needs a weight")
        if self.shadow is not None and self.shadow.model in (None, self.name):
            known = names or [self.version]
            if self.shadow.version not in known:
                raise ValueError(f"shadow: version '{self.shadow.version}' is not one of the versions")
        return self

    @property
    def protocol(self) -> Literal["grpc", "http"]:
        """How its replicas are called: HTTP where the entry has a path."""
        return "grpc" if self.path is None else "http"

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Its versions, in the order of the file; one without a name where it lists none."""
        if not self.versions:
            return (Variant(self.version, self._targets(self), 1.0, self.service is not None),)
        only = len(self.versions) == 1
        return tuple(
            Variant(one.version, self._targets(one), one.weight or float(only), one.service is not None)
            for one in self.versions
        )

    def _targets(self, replicas: Replicas) -> tuple[Target, ...]:
        """Where to look for replicas; each may resolve to several addresses."""
        default = self.port or (GRPC_PORT if self.protocol == "grpc" else HTTP_PORT)
        named = replicas.endpoints or (replicas.service or "",)
        return tuple(Target(host, port or default) for host, port in map(host_port, named))


class ModelsFile(BaseModel):
    """The whole registry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    models: tuple[ModelEntry, ...]


def parse_models(text: str, *, source: str = "models.yaml") -> ModelsFile:
    """The registry of a file's text.

    Raises ConfigError with every problem: not YAML, unknown keys, values out of range, a name
    or alias that stands twice, a fallback or shadow that is no model, no model at all.
    """
    document = YamlDocument(text, source)
    if isinstance(document.value, list):
        document.nest_under("models")
    if not isinstance(document.value, dict):
        raise ConfigError(source, (Problem("", "must be a list of models, or {version: 1, models: [...]}"),))
    parsed = document.validated(ModelsFile, document.value)
    found = [*_conflicts(parsed), *_dangling(parsed)]
    problems = [document.problem(path, message) for path, message in found]
    if not parsed.models:
        problems.append(document.problem(("models",), "has no model; at least one is required"))
    if problems:
        raise ConfigError(source, tuple(problems))
    return parsed


def _conflicts(parsed: ModelsFile) -> Iterator[tuple[Path, str]]:
    """Names that stand for two models, or twice for one."""
    owner: dict[str, int] = {}
    for index, entry in enumerate(parsed.models):
        fields = [("name",), *(("aliases", position) for position in range(len(entry.aliases)))]
        for field, name in zip(fields, (entry.name, *entry.aliases), strict=True):
            if name in owner:
                yield ("models", index, *field), f"'{name}' already stands for models[{owner[name]}]"
            owner.setdefault(name, index)


def _dangling(parsed: ModelsFile) -> Iterator[tuple[Path, str]]:
    """Names of other models that do not exist, or that cannot serve in their place."""
    models = {entry.name: entry for entry in parsed.models}
    for index, entry in enumerate(parsed.models):
        for position, name in enumerate(entry.fallback):
            where: Path = ("models", index, "fallback", position)
            if name == entry.name or name not in models:
                yield where, f"'{name}' is not another model of this file"
            elif models[name].protocol != entry.protocol:
                yield where, f"'{name}' is not called by {entry.protocol} as this model is"
        shadow = entry.shadow
        if shadow is None or shadow.model in (None, entry.name):
            continue
        other = models.get(shadow.model or "")
        if other is None:
            yield ("models", index, "shadow", "model"), f"'{shadow.model}' is not a model of this file"
        elif other.protocol == "http":
            yield (
                ("models", index, "shadow", "model"),
                f"'{shadow.model}' is an HTTP service; a worker can be one",
            )
        elif shadow.version and shadow.version not in {variant.version for variant in other.variants}:
            yield (
                ("models", index, "shadow", "version"),
                f"'{shadow.model}' has no version '{shadow.version}'",
            )
