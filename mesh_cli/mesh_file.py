"""mesh.yaml: which models `mesh up` runs on this machine, and how.

Owns the schema, its validation and where a model's path leads. The file is `{version: 1,
models: [...]}` or a bare list of models; the smallest entry is a name and a path.
"""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from inference_mesh.config.errors import ConfigError, Problem
from inference_mesh.config.models_file import ModelName
from inference_mesh.config.yaml_document import Path as KeyPath
from inference_mesh.config.yaml_document import YamlDocument
from mesh_cli.embedded import SCHEME, embedded_models

DEFAULT_NAME = "mesh.yaml"

Runtime = Literal["llama", "onnx"]
TaskName = Literal["generate", "embed", "rerank", "classify", "tensors"]


class MeshModel(BaseModel):
    """One model, run by this machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ModelName = Field(description="Unique name: a-z, 0-9, '-', '.'; 1 to 63 characters.")
    path: Annotated[str, Field(min_length=1)] = Field(
        description="A .gguf file, an .onnx file or a folder with model.onnx, relative to this file; "
        "or embedded:NAME."
    )
    runtime: Runtime | None = Field(None, description="Engine; absent = by the path.")
    task: TaskName | None = Field(None, description="What the model does; absent = as the model says.")
    version: str = Field("", max_length=64, description="Version that is reported.")
    aliases: tuple[ModelName, ...] = Field((), description="Other names for it.")
    replicas: int = Field(1, ge=1, le=64, description="Processes that run it.")
    slots: int | None = Field(None, ge=1, le=256, description="Requests at a time (llama).")
    context: int | None = Field(None, ge=32, le=1_048_576, description="Tokens of one request (llama).")
    threads: int | None = Field(None, ge=1, le=1024, description="Threads of one process.")
    timeout_s: float | None = Field(
        None, gt=0, le=86_400, description="Longest call; a caller can only ask for less."
    )


class MeshFile(BaseModel):
    """All models of this machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    models: tuple[MeshModel, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class LocalModel:
    """A model with its path resolved. problem: why it cannot be run; None = nothing seen."""

    spec: MeshModel
    path: Path
    runtime: Runtime
    problem: str | None = None


def parse_mesh(text: str, *, source: str = DEFAULT_NAME) -> MeshFile:
    """The models of a file's text.

    Raises ConfigError with every problem: not YAML, unknown keys, values out of range, a name
    that stands twice, no model at all.
    """
    document = _document(text, source)
    parsed = document.validated(MeshFile, document.value)
    problems = [document.problem(path, message) for path, message in _conflicts(parsed)]
    if not parsed.models:
        problems.append(document.problem(("models",), "has no model; at least one is required"))
    if problems:
        raise ConfigError(source, tuple(problems))
    return parsed


def check_files(text: str, *, source: str, folder: Path) -> None:
    """Raises ConfigError naming every model whose file is not there or not of its runtime."""
    document = _document(text, source)
    models = document.validated(MeshFile, document.value).models
    problems = tuple(
        document.problem(("models", index, "path"), found.problem)
        for index, found in enumerate(resolve(model, folder) for model in models)
        if found.problem
    )
    if problems:
        raise ConfigError(source, problems)


def resolve(model: MeshModel, folder: Path) -> LocalModel:
    """Where the model's files are; relative paths start at the folder."""
    if model.path.startswith(SCHEME):
        return _resolve_embedded(model)
    path = (folder / Path(model.path).expanduser()).resolve()
    runtime = model.runtime or runtime_of(path)
    return LocalModel(model, path, runtime or "onnx", file_problem(path, runtime))


def runtime_of(path: Path) -> Runtime | None:
    """The engine for a path, by its form; None if neither takes it."""
    if path.suffix.lower() == ".gguf":
        return "llama"
    return "onnx" if path.suffix.lower() == ".onnx" or path.is_dir() else None


def file_problem(path: Path, runtime: Runtime | None) -> str | None:
    """Why the path cannot be a model, seen from outside; None if it may be one."""
    if not path.exists():
        return f"there is nothing at '{path}'"
    if runtime is None:
        return f"'{path.name}' is neither a .gguf file, an .onnx file nor a folder with model.onnx"
    file = path / "model.onnx" if path.is_dir() else path
    if not file.is_file():
        return f"the folder '{path}' has no model.onnx"
    if file.stat().st_size == 0:
        return f"'{file.name}' is empty"
    if runtime == "llama" and _first_bytes(file) != b"GGUF":
        return f"'{file.name}' is not a GGUF file: it does not begin with 'GGUF'"
    return None


def default_text() -> str:
    """The embedded mesh.yaml."""
    return resources.files("mesh_cli").joinpath("default_mesh.yaml").read_text()


def read_mesh(config: Path | None) -> tuple[MeshFile, Path, str]:
    """The models of a file, the folder its paths start at, and its name.

    Without a file: mesh.yaml of the current folder, else the embedded default. Raises ConfigError.
    """
    path = config or Path(DEFAULT_NAME)
    if config is None and not path.exists():
        return parse_mesh(default_text(), source="embedded default"), Path.cwd(), "embedded default"
    return parse_mesh(read_text(path), source=str(path)), path.resolve().parent, str(path)


def read_text(path: Path) -> str:
    """A configuration file's text. Raises ConfigError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(str(path), (Problem("", "is not UTF-8 text"),)) from None
    except OSError as error:
        raise ConfigError(str(path), (Problem("", f"cannot be read: {error.strerror}"),)) from None


def _document(text: str, source: str) -> YamlDocument:
    document = YamlDocument(text, source)
    if isinstance(document.value, list):
        document.nest_under("models")
    if not isinstance(document.value, dict):
        raise ConfigError(source, (Problem("", "must be a list of models, or {version: 1, models: [...]}"),))
    return document


def _conflicts(parsed: MeshFile) -> list[tuple[KeyPath, str]]:
    """Names that stand for two models, or twice for one."""
    owner: dict[str, str] = {}
    found: list[tuple[KeyPath, str]] = []
    for index, model in enumerate(parsed.models):
        places: list[KeyPath] = [
            ("name",),
            *(("aliases", position) for position in range(len(model.aliases))),
        ]
        for place, name in zip(places, (model.name, *model.aliases), strict=True):
            if name in owner:
                found.append((("models", index, *place), f"'{name}' stands twice, first for '{owner[name]}'"))
            owner.setdefault(name, model.name)
    return found


def _resolve_embedded(model: MeshModel) -> LocalModel:
    known = embedded_models()
    name = model.path.removeprefix(SCHEME)
    if name not in known:
        problem = f"there is no embedded model '{name}'; there are {', '.join(sorted(known))}"
        return LocalModel(model, Path(name), model.runtime or "onnx", problem)
    found = known[name]
    missing = None if found.is_present() else f"the embedded model '{name}' is not there yet: {found.cure}"
    runtime: Runtime = "llama" if found.path.suffix == ".gguf" else "onnx"
    return LocalModel(model, found.path, model.runtime or runtime, missing)


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(4)
