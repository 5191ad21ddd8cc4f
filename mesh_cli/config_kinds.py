"""The kinds of configuration files: how one is told from another, and how each is checked."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from inference_mesh.config.errors import ConfigError
from inference_mesh.config.keys_file import parse_keys
from inference_mesh.config.models_file import ModelEntry, parse_models
from inference_mesh.config.tenants_file import parse_tenants
from mesh_cli.access_check import check_issuers
from mesh_cli.mesh_file import check_files, parse_mesh
from mesh_cli.mesh_schema import MeshModel

_OF_A_REGISTRY = frozenset({"service", "endpoints", "port"})
_OF_A_MESH = frozenset(MeshModel.model_fields) - frozenset(ModelEntry.model_fields) | {"path"}


class FileKind(StrEnum):
    """What a configuration file is."""

    MODELS = "models"
    """The gateway's registry."""
    MESH = "mesh"
    """What `mesh up` runs."""
    KEYS = "keys"
    """API keys."""
    TENANTS = "tenants"
    """Tenants and whose tokens are believed."""


def kind_of(text: str, name: str) -> FileKind | None:
    """The kind by the content, else by the file's name; None if neither tells."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and "keys" in document:
        return FileKind.KEYS
    if isinstance(document, dict) and ("tenants" in document or "issuers" in document):
        return FileKind.TENANTS
    entries = document.get("models") if isinstance(document, dict) else document
    found = _kind_of_entries(entries) if isinstance(entries, list) else None
    return found or _kind_of_name(name)


def check_config(kind: FileKind, text: str, path: Path) -> ConfigError | None:
    """Everything that is wrong in the file, also in the files that it names; None if nothing is."""
    source = str(path)
    try:
        if kind is FileKind.KEYS:
            parse_keys(text, source=source)
        elif kind is FileKind.MODELS:
            parse_models(text, source=source)
        elif kind is FileKind.TENANTS:
            parse_tenants(text, source=source)
            check_issuers(text, source=source, folder=path.resolve().parent)
        else:
            parse_mesh(text, source=source)
            check_files(text, source=source, folder=path.resolve().parent)
    except ConfigError as error:
        return error
    return None


def _kind_of_entries(entries: list[Any]) -> FileKind | None:
    entries = [entry for entry in entries if isinstance(entry, dict)]
    lists = [entry["versions"] for entry in entries if isinstance(entry.get("versions"), list)]
    versions = [one for found in lists for one in found if isinstance(one, dict)]
    keys = {str(key) for entry in (*entries, *versions) for key in entry}
    if keys & _OF_A_REGISTRY:
        return FileKind.MODELS
    return FileKind.MESH if keys & _OF_A_MESH else None


def _kind_of_name(name: str) -> FileKind | None:
    return next((kind for kind in FileKind if name.startswith(kind.value)), None)
