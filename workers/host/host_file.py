"""The file that names the models of a host."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pydantic

from inference_mesh.config.errors import ConfigError, Problem
from inference_mesh.config.models_file import ModelName
from inference_mesh.config.yaml_document import YamlDocument
from workers.settings import WorkerSettings

OF_THE_HOST = frozenset(
    {"model", "name", "runtime", "task", "version", "host", "grpc_port", "http_port", "port_file"}
    | {name for name in WorkerSettings.model_fields if name.startswith(("tls_", "otlp_", "log_"))}
)
"""Settings of a worker that stand elsewhere in the entry, or that the host itself decides."""

SettingValue = pydantic.StrictBool | pydantic.StrictInt | pydantic.StrictFloat | pydantic.StrictStr


class HostedModel(pydantic.BaseModel):
    """One model of a host."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    name: ModelName = pydantic.Field(description="Name that requests call it by.")
    model: Path = pydantic.Field(description="GGUF file, ONNX file or folder, relative to this file.")
    runtime: Literal["llama", "onnx"] = pydantic.Field(description="Engine that runs it.")
    task: Literal["generate", "embed", "rerank", "classify", "tensors"] = pydantic.Field(
        description="What it does: the host must know while the model is not loaded."
    )
    version: str = pydantic.Field("", max_length=64, description="Version of the model.")
    pinned: bool = pydantic.Field(False, description="Loaded at the start and never given up.")
    memory_bytes: int = pydantic.Field(
        0, ge=0, description="What it takes in memory; 0 = by its files, until it was loaded once."
    )
    settings: dict[str, SettingValue] = pydantic.Field(
        {}, description="Settings of its worker, by their names in docs/configuration.md."
    )

    @pydantic.field_validator("settings")
    @classmethod
    def _are_settings_of_a_worker(cls, value: dict[str, SettingValue]) -> dict[str, SettingValue]:
        allowed = sorted(set(WorkerSettings.model_fields) - OF_THE_HOST)
        for name in value:
            if name not in allowed:
                raise ValueError(f"no such setting: {name}; allowed are {', '.join(allowed)}")
        return value


class HostFile(pydantic.BaseModel):
    """All models of a host."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    models: tuple[HostedModel, ...] = pydantic.Field(min_length=1)

    @pydantic.model_validator(mode="after")
    def _names_are_unique(self) -> HostFile:
        names = [model.name for model in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"models that stand twice: {', '.join(twice)}")
        return self


def read_host_file(path: Path) -> HostFile:
    """The models, their paths made absolute. Raises ConfigError naming what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), (Problem("", f"cannot be read: {error}"),)) from None
    document = YamlDocument(text, str(path))
    if isinstance(document.value, list):
        document.nest_under("models")
    found = document.validated(HostFile, document.value)
    base = path.resolve().parent
    models = [model.model_copy(update={"model": base / model.model}) for model in found.models]
    return found.model_copy(update={"models": tuple(models)})
