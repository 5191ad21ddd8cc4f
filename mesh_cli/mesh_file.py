"""mesh.yaml: which models `mesh up` runs on this machine, and how.

Owns reading it, what must hold between its models, and where a model's paths lead. The file is
`{version: 1, models: [...]}` or a bare list of models; the smallest entry is a name and a path.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path

import yaml

from inference_mesh.config.errors import ConfigError, Problem
from inference_mesh.config.models_file import parse_models
from inference_mesh.config.yaml_document import Path as KeyPath
from inference_mesh.config.yaml_document import YamlDocument
from mesh_cli.embedded import SCHEME, embedded_models
from mesh_cli.mesh_schema import MeshFile, MeshModel, MeshVersion, Running, Runtime, Traffic

DEFAULT_NAME = "mesh.yaml"

PLACEHOLDER = ("127.0.0.1:1",)


@dataclasses.dataclass(frozen=True, slots=True)
class LocalModel:
    """A model, or one of its versions, with its path resolved.

    spec: with the version's own values in place of the model's. problem: why it cannot be run;
    None = nothing seen. variant: the version, of a model that has several.
    """

    spec: MeshModel
    path: Path
    runtime: Runtime
    problem: str | None = None
    variant: MeshVersion | None = None


def parse_mesh(text: str, *, source: str = DEFAULT_NAME) -> MeshFile:
    """The models of a file's text.

    Raises ConfigError with every problem: not YAML, unknown keys, values out of range, a name
    that stands twice, a fallback, shadow or canary that is none of the models, no model at all.
    """
    document = _document(text, source)
    parsed = document.validated(MeshFile, document.value)
    problems = [document.problem(path, message) for path, message in _conflicts(parsed)]
    if not parsed.models:
        problems.append(document.problem(("models",), "has no model; at least one is required"))
    problems = problems or [document.problem(path, message) for path, message in _misled(parsed)]
    if problems:
        raise ConfigError(source, tuple(problems))
    return parsed


def check_files(text: str, *, source: str, folder: Path) -> None:
    """Raises ConfigError naming every model whose file is not there or not of its runtime."""
    document = _document(text, source)
    models = document.validated(MeshFile, document.value).models
    problems = tuple(
        document.problem(("models", index, *_place(found, position)), found.problem)
        for index, model in enumerate(models)
        for position, found in enumerate(resolve(model, folder))
        if found.problem
    )
    if problems:
        raise ConfigError(source, problems)


def resolve(model: MeshModel, folder: Path) -> tuple[LocalModel, ...]:
    """Where the model's files are, one for each of its versions; relative paths start at the folder."""
    if not model.versions:
        return (_resolve_one(model, folder),)
    return tuple(
        dataclasses.replace(_resolve_one(_of_version(model, one), folder), variant=one)
        for one in model.versions
    )


def registry_entry(model: MeshModel, endpoints: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """The model as an entry of the gateway's models.yaml. endpoints: host:port by version."""
    entry: dict[str, object] = {"name": model.name}
    if model.versions:
        entry["versions"] = [
            {"version": one.version, "weight": one.weight, "endpoints": list(endpoints[one.version])}
            for one in model.versions
        ]
    else:
        entry["endpoints"] = list(endpoints[model.version])
    optional = {"task": model.task, "version": model.version, "aliases": list(model.aliases)}
    # What was not written stays unwritten: some keys may only stand together.
    traffic = model.model_dump(
        mode="json", include=set(Traffic.model_fields), exclude_unset=True, exclude_none=True
    )
    return entry | {key: value for key, value in optional.items() if value} | traffic


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


def _misled(parsed: MeshFile) -> Iterator[tuple[KeyPath, str]]:
    """What the gateway's registry would refuse in what it gets of these models."""
    entries = [registry_entry(model, dict.fromkeys(_versions(model), PLACEHOLDER)) for model in parsed.models]
    try:
        parse_models(yaml.safe_dump(entries))
    except ConfigError as error:
        for problem in error.problems:
            yield _key_path(problem.where), problem.message


def _versions(model: MeshModel) -> tuple[str, ...]:
    return tuple(one.version for one in model.versions) or (model.version,)


def _key_path(where: str) -> KeyPath:
    """The parts of a place such as "models[2].shadow.model"."""
    parts = re.findall(r"\[(\d+)\]|([^.\[\]]+)", where)
    return tuple(int(index) if index else key for index, key in parts)


def _place(found: LocalModel, position: int) -> KeyPath:
    return ("versions", position, "path") if found.variant else ("path",)


def _of_version(model: MeshModel, one: MeshVersion) -> MeshModel:
    """The model as if it had this version only."""
    own = one.model_dump(include={"version", "path", *Running.model_fields, "replicas"}, exclude_none=True)
    return model.model_copy(update={**own, "versions": ()})


def _resolve_one(model: MeshModel, folder: Path) -> LocalModel:
    written = model.path or ""
    if written.startswith(SCHEME):
        return _resolve_embedded(model, written.removeprefix(SCHEME))
    path = (folder / Path(written).expanduser()).resolve()
    runtime = model.runtime or runtime_of(path)
    return LocalModel(model, path, runtime or "onnx", file_problem(path, runtime))


def _resolve_embedded(model: MeshModel, name: str) -> LocalModel:
    known = embedded_models()
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
