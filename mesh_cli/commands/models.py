"""`mesh models`: which models there are, adding one's own, and trying one out."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Annotated

import typer

from inference_mesh.errors import MeshError
from mesh_cli.commands.options import DEFAULT_STATE_DIR, ApiKey, AsJson, Config, StateDir, Target
from mesh_cli.errors import CliError, UsageError
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
from mesh_cli.state import StateFolder, write_atomically

Name = Annotated[str | None, typer.Option(help="Name of the model; default: from the file's name.")]
Task = Annotated[TaskName | None, typer.Option(help="What it does; default: as the model says.")]


def make_app() -> typer.Typer:
    """The commands below `mesh models`."""
    app = typer.Typer(help="List models, add your own, try one out.", no_args_is_help=True)
    app.command("list")(list_models)
    app.command("add")(add)
    app.command("verify")(verify)
    return app


def list_models(
    target: Target = None,
    api_key: ApiKey = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """List the models of the running mesh."""
    from mesh_cli.model_list import fetch_models, model_json, models_table  # grpc: only when called
    from mesh_cli.target import choose_target, run_call

    address = choose_target(target, StateFolder(state_dir))
    found = run_call(fetch_models(address, api_key), address)
    if as_json:
        print(json.dumps([model_json(model) for model in found], indent=2))
        return
    output_console().print(models_table(found))


def add(
    path: Annotated[Path, typer.Argument(help="A .gguf file, an .onnx file or a folder with model.onnx.")],
    name: Name = None,
    task: Task = None,
    replicas: Annotated[int, typer.Option(min=1, max=64, help="Processes that run it.")] = 1,
    config: Annotated[
        Path, typer.Option("--config", "-c", help="mesh.yaml to add to; made if missing.")
    ] = Path(DEFAULT_NAME),
) -> None:
    """Add a model file of yours to mesh.yaml."""
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
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,62}", name):
        raise UsageError(
            f"--name is '{name}'; allowed are 1 to 63 of a-z, 0-9, '-', '.', not '-' or '.' first"
        )
    return name
