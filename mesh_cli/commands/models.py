"""`mesh models`: which models there are, adding one's own, and trying one out."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from inference_mesh.config.models_file import MODEL_NAME
from inference_mesh.errors import MeshError
from mesh_cli.commands.gateway_options import GatewayOptions, asks_gateway
from mesh_cli.commands.options import AsJson, Config
from mesh_cli.errors import CliError, UsageError
from mesh_cli.kustomize_folder import add_to_kustomize
from mesh_cli.kustomize_model import NewModel
from mesh_cli.mesh_edit import new_text, with_model
from mesh_cli.mesh_file import (
    DEFAULT_NAME,
    LocalModel,
    file_problem,
    read_mesh,
    read_text,
    resolve,
    runtime_of,
)
from mesh_cli.mesh_schema import MeshModel, Runtime, TaskName
from mesh_cli.mesh_table import output_console
from mesh_cli.state import write_atomically

KUSTOMIZE = Path("kustomize")
NAME_RULE = "allowed are 1 to 63 of a-z, 0-9, '-', '.', not '-' or '.' first"

Name = Annotated[str | None, typer.Option(help="Name of the model; default: from the file's name.")]
Task = Annotated[TaskName | None, typer.Option(help="What it does; default: as the model says.")]


def make_app() -> typer.Typer:
    """The commands below `mesh models`."""
    app = typer.Typer(help="List models, add your own, try one out.", no_args_is_help=True)
    app.command("list")(list_models)
    app.command("add")(add)
    app.command("verify")(verify)
    return app


@asks_gateway
def list_models(
    as_json: AsJson = False,
    *,
    gateway: GatewayOptions,
) -> None:
    """List the models of the running mesh."""
    from mesh_cli.model_list import fetch_models, model_json, models_table  # grpc: only when called
    from mesh_cli.target import choose_access, run_call

    access = choose_access(gateway)
    found = run_call(fetch_models(access), access)
    if as_json:
        print(json.dumps([model_json(model) for model in found], indent=2))
        return
    output_console().print(models_table(found))


def add(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH | NAME",
            help="A .gguf file, an .onnx file or a folder with model.onnx; with --kustomize a name.",
        ),
    ],
    name: Name = None,
    task: Task = None,
    replicas: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes that run it.", show_default="1")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="mesh.yaml to add to; made if missing.", show_default=DEFAULT_NAME
        ),
    ] = None,
    kustomize: Annotated[
        bool, typer.Option("--kustomize", help="Add it to the manifests in kustomize/ in place of mesh.yaml.")
    ] = False,
    model_path: Annotated[
        str | None,
        typer.Option(
            help="With --kustomize: its file in the pod; default: /models/NAME.gguf or /models/NAME."
        ),
    ] = None,
    runtime: Annotated[
        Runtime | None,
        typer.Option(help="With --kustomize: its engine; default: by the model path, else llama."),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(help="With --kustomize: folder of base/models to copy; default: one of its engine."),
    ] = None,
    kustomize_dir: Annotated[Path, typer.Option(help="Where the manifests are.")] = KUSTOMIZE,
) -> None:
    """Add a model file of yours to mesh.yaml, or a model to the manifests of Kubernetes."""
    if kustomize:
        _refuse("with --kustomize", {"--name": name, "--replicas": replicas, "--config": config})
        _add_to_kustomize(_new_model(str(path), model_path, runtime, task), kustomize_dir, like)
        return
    _refuse("without --kustomize", {"--model-path": model_path, "--runtime": runtime, "--like": like})
    _add_to_mesh(path, name, task, replicas or 1, config or Path(DEFAULT_NAME))


def _add_to_mesh(path: Path, name: str | None, task: TaskName | None, replicas: int, config: Path) -> None:
    problem = file_problem(path, runtime_of(path))
    if problem:
        raise UsageError(problem)
    written = os.path.relpath(path.resolve(), config.resolve().parent)
    model = MeshModel(name=_checked_name(name, path), path=written, task=task, replicas=replicas)
    text = with_model(read_text(config), model, source=str(config)) if config.exists() else new_text(model)
    try:
        write_atomically(config, text)
    except OSError as error:
        raise UsageError(f"cannot write '{config}': {error.strerror}") from None
    print(f"{model.name} was added to {config}")
    print(f"`mesh models verify {model.name} --config {config}` tries it out")


def _add_to_kustomize(model: NewModel, kustomize: Path, like: str | None) -> None:
    for path in add_to_kustomize(kustomize, model, like):
        print(f"{'made' if path.is_dir() else 'changed'} {path}")
    print(f"its workers load {model.path}: put it into their image, or mount a volume that has it")


def _new_model(name: str, model_path: str | None, runtime: Runtime | None, task: TaskName | None) -> NewModel:
    """The model that the options tell of. Raises UsageError."""
    if not MODEL_NAME.fullmatch(name):
        raise UsageError(f"'{name}' is no name: {NAME_RULE}; --model-path tells where its file is")
    engine: Runtime = runtime or ("llama" if (model_path or ".gguf").endswith(".gguf") else "onnx")
    if model_path is None:
        model_path = f"/models/{name}.gguf" if engine == "llama" else f"/models/{name}"
    if not model_path.startswith("/") or not model_path.isprintable():
        raise UsageError("--model-path must be a path in the pod that begins with '/'")
    return NewModel(name, model_path, engine, task)


def _refuse(when: str, options: Mapping[str, object]) -> None:
    """Raises UsageError if one of these options was given, which say nothing here."""
    given = [option for option, value in options.items() if value is not None]
    if given:
        raise UsageError(f"{given[0]} says nothing {when}")


def verify(
    model: Annotated[str, typer.Argument(help="Name of a model of mesh.yaml, NAME@VERSION, or a path.")],
    task: Task = None,
    runtime: Annotated[Runtime | None, typer.Option(help="Engine; default: by the path.")] = None,
    config: Config = None,
    timeout: Annotated[float, typer.Option(min=1, max=3600, help="Seconds to load the model.")] = 120.0,
    as_json: AsJson = False,
) -> None:
    """Load a model in a process of its own, run one tiny inference, and report."""
    from mesh_cli.verification import verify_model  # grpc: only when called

    found = _find(model, config, task, runtime)
    try:
        report = asyncio.run(verify_model(found, timeout))
    except (CliError, MeshError) as error:
        if as_json:
            print(json.dumps({"ok": False, "error": str(error)}, indent=2))
        raise
    print(json.dumps(report.document(), indent=2) if as_json else report.text())


def _find(model: str, config: Path | None, task: TaskName | None, runtime: Runtime | None) -> LocalModel:
    """The model by NAME or NAME@VERSION in mesh.yaml, else by its path. Raises UsageError."""
    parsed, folder, source = read_mesh(config)
    name, _, version = model.partition("@")
    specs = [spec for spec in parsed.models if name in (spec.name, *spec.aliases)]
    if not specs:
        if not Path(model).exists():
            raise UsageError(f"there is no model '{model}' in the {source}, and no such file")
        version = ""
        specs = [MeshModel(name=_checked_name(None, Path(model)), path=str(Path(model).resolve()))]
    spec = specs[0].model_copy(update={"task": task or specs[0].task, "runtime": runtime or specs[0].runtime})
    versions = [one for one in resolve(spec, folder) if version in ("", one.spec.version)]
    if not versions:
        raise UsageError(f"model '{spec.name}' has no version '{version}' in the {source}")
    if versions[0].problem:
        raise UsageError(versions[0].problem)
    return versions[0]


def _checked_name(name: str | None, path: Path) -> str:
    if name is None:
        stem = path.resolve().name.removesuffix(".gguf").removesuffix(".onnx").lower()
        name = re.sub(r"[^a-z0-9.-]+", "-", stem).strip("-.")[:63].rstrip("-.") or "model"
    if not MODEL_NAME.fullmatch(name):
        raise UsageError(f"--name is '{name}'; {NAME_RULE}")
    return name
