"""Adding a model to the manifests of a checkout: its folder, and the two lists that name it.

Owns the files; what stands in them is kustomize_model's. All texts are made before the first is
written, and the folder comes before what names it.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import yaml

from mesh_cli.errors import UsageError
from mesh_cli.kustomize_model import (
    SETTINGS,
    NewModel,
    folder_of,
    settings_of,
    with_registry_entry,
    with_resource,
)
from mesh_cli.mesh_file import read_text
from mesh_cli.mesh_schema import Runtime
from mesh_cli.state import write_atomically


def add_to_kustomize(kustomize: Path, model: NewModel, like: str | None = None) -> list[Path]:
    """Add the model and return what was written or changed.

    like: the folder to copy; None = the first whose model has the same runtime. Raises
    UsageError or ConfigError, and then nothing was changed.
    """
    models, registry = kustomize / "base" / "models", kustomize / "base" / "gateway" / "models.yaml"
    list_of_folders, target = models / "kustomization.yaml", models / model.service
    if not list_of_folders.is_file():
        raise UsageError(f"'{kustomize}' has no base/models; name the folder with --kustomize-dir")
    if target.exists():
        raise UsageError(f"'{target}' is there already; choose another name")
    template = models / (like or _first_of(models, list_of_folders, model.runtime))
    texts = _texts(template)
    files = folder_of(texts, template.name, model)
    engine = settings_of(texts[SETTINGS]).get("MESH_WORKER_RUNTIME")
    if engine != model.runtime:
        raise UsageError(
            f"'{template}' has a model that {engine} runs: say --runtime {engine}, or copy another"
        )
    changed = {
        list_of_folders: with_resource(
            read_text(list_of_folders), model.service, source=str(list_of_folders)
        ),
        registry: with_registry_entry(read_text(registry), model, source=str(registry)),
    }
    try:
        _write_folder(target, files)
        for path, text in changed.items():
            mode = path.stat().st_mode
            write_atomically(path, text)
            path.chmod(mode)
    except OSError as error:
        raise UsageError(f"cannot write '{error.filename or kustomize}': {error.strerror}") from None
    return [target, *changed]


def _first_of(models: Path, list_of_folders: Path, runtime: Runtime) -> str:
    """The first folder whose model is run by this engine. Raises UsageError if there is none."""
    for name in yaml.safe_load(read_text(list_of_folders)).get("resources", ()):
        settings = models / str(name) / SETTINGS
        if settings.is_file() and settings_of(read_text(settings)).get("MESH_WORKER_RUNTIME") == runtime:
            return str(name)
    raise UsageError(f"no folder of '{models}' has a model that {runtime} runs; name one with --like")


def _texts(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        raise UsageError(f"there is no folder '{folder}' to copy")
    return {path.name: read_text(path) for path in sorted(folder.iterdir()) if path.is_file()}


def _write_folder(target: Path, files: dict[str, str]) -> None:
    """The whole folder at once, or nothing."""
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        for name, text in files.items():
            (scratch / name).write_text(text, encoding="utf-8")
        scratch.chmod(0o755)
        scratch.rename(target)
    except OSError:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
