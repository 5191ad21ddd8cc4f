"""What may stand in mesh.yaml: the models of this machine, and how their traffic is steered.

Owns the schema. What depends on several models, or on files, is `mesh_file`'s.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from inference_mesh.config.limits import LimitsSpec
from inference_mesh.config.model_traffic import (
    CacheSpec,
    CanarySpec,
    QueueSpec,
    ShadowSpec,
    TimeLimits,
    VersionName,
)
from inference_mesh.config.models_file import ModelName

Runtime = Literal["llama", "onnx"]
TaskName = Literal["generate", "embed", "rerank", "classify", "tensors"]

ModelPath = Annotated[str, Field(min_length=1)]
PATH_HELP = (
    "A .gguf file, an .onnx file or a folder with model.onnx, relative to this file; or embedded:NAME."
)


class Traffic(BaseModel):
    """How a model's traffic is steered: what the gateway's registry also knows, and gets as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    canary: CanarySpec | None = Field(None, description="The version that gets traffic step by step.")
    shadow: ShadowSpec | None = Field(None, description="Who gets copies of the traffic.")
    fallback: tuple[ModelName, ...] = Field(
        (), max_length=10, description="Models that are asked instead, in order, before the first byte."
    )
    tenants: tuple[str, ...] | None = Field(None, description="Tenants that may use it; absent = all.")
    limits: LimitsSpec | None = Field(None, description="Limits of all callers together.")
    max_tokens: int | None = Field(
        None, ge=1, le=10_000_000, description="Longest answer in tokens; a longer wish is clamped."
    )
    timeout_s: float | None = Field(
        None, gt=0, le=86_400, description="Longest call; a caller can only ask for less."
    )
    timeouts: TimeLimits | None = Field(None, description="When a replica counts as hung.")
    queue: QueueSpec | None = Field(None, description="The calls that wait.")
    resume: bool | None = Field(None, description="Whether a broken stream goes on elsewhere; absent = yes.")
    cache: CacheSpec | None = Field(None, description="Keeps answers; absent = none.")


class Running(BaseModel):
    """How the processes of a model or a version run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runtime: Runtime | None = Field(None, description="Engine; absent = by the path.")
    slots: int | None = Field(None, ge=1, le=256, description="Requests at a time (llama).")
    context: int | None = Field(None, ge=32, le=1_048_576, description="Tokens of one request (llama).")
    threads: int | None = Field(None, ge=1, le=1024, description="Threads of one process.")
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-fA-F]{64}$",
        description="SHA-256 that the file must have (of a folder: model.onnx); another one is not served.",
    )


class MeshVersion(Running):
    """One of several versions of a model. What is absent is the model's."""

    version: VersionName = Field(description="Name of the version: A-Z a-z 0-9 . _ + -")
    path: ModelPath = Field(description=PATH_HELP)
    weight: float = Field(
        0.0, ge=0, le=1e6, description="Share of the traffic, relative to the other versions' weights."
    )
    replicas: int | None = Field(None, ge=1, le=64, description="Processes that run it.")


class MeshModel(Running, Traffic):
    """One model, run by this machine."""

    name: ModelName = Field(description="Unique name: a-z, 0-9, '-', '.'; 1 to 63 characters.")
    path: ModelPath | None = Field(None, description=PATH_HELP)
    task: TaskName | None = Field(None, description="What the model does; absent = as the model says.")
    version: str = Field("", max_length=64, description="Version that is reported.")
    versions: tuple[MeshVersion, ...] = Field(
        (), max_length=50, description="Several versions at once, each from its own file, instead of path."
    )
    aliases: tuple[ModelName, ...] = Field((), description="Other names for it.")
    replicas: int = Field(1, ge=1, le=64, description="Processes that run it.")

    @model_validator(mode="after")
    def _one_source_of_files(self) -> MeshModel:
        if (self.path is None) == (not self.versions):
            raise ValueError("exactly one of path and versions is required")
        if self.versions and self.version:
            raise ValueError("version stands in each of the versions")
        if self.versions and self.sha256:
            raise ValueError("sha256 stands in each of the versions")
        return self


class MeshFile(BaseModel):
    """All models of this machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    models: tuple[MeshModel, ...] = ()
