"""`inference_mesh` holds what at least two services need, and nothing else."""

from __future__ import annotations

import grimp
import pytest

# The packages that meet only here; `models` makes the files that mesh_cli looks for.
SERVICES = {"gateway", "workers", "rest_bridge", "mesh_cli", "conformance", "models"}

# Shared although fewer than two services import it; each with the reason.
EXCEPTIONS = {
    "inference_mesh.config.watched_file": "half of what a configuration file is; its schemas are shared",
    "inference_mesh.client": "the public Python client: programs outside this repository import it",
}


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("inference_mesh", *sorted(SERVICES))


def users(imports: grimp.ImportGraph, module: str) -> set[str]:
    """The services that import a module, themselves or through another shared module."""
    return {importer.split(".")[0] for importer in imports.find_downstream_modules(module)} & SERVICES


def shared_modules(imports: grimp.ImportGraph) -> set[str]:
    found = {name for name in imports.modules if name.startswith("inference_mesh.")}
    packages = {name for name in found if imports.find_children(name)}
    return {name for name in found - packages if "_pb2" not in name}


def is_exception(module: str) -> bool:
    """Whether it is one of them, or stands in a package that is."""
    return any(f"{module}.".startswith(f"{name}.") for name in EXCEPTIONS)


def test_a_shared_module_is_imported_by_two_services(imports: grimp.ImportGraph) -> None:
    few = {name: sorted(users(imports, name)) for name in shared_modules(imports)}
    assert {name: found for name, found in few.items() if len(found) < 2 and not is_exception(name)} == {}


def test_every_exception_is_still_one(imports: grimp.ImportGraph) -> None:
    assert [name for name in EXCEPTIONS if len(users(imports, name)) >= 2] == []
