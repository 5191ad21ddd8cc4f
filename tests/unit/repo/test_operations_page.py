"""What docs/operations.md and the README name of Kubernetes is in the manifests, and nothing is left out."""

from __future__ import annotations

import re

import pytest

from scripts.check_manifests import KUSTOMIZE, overlays
from tests.support.manifests import full_name, rendered
from tests.support.processes import REPOSITORY

OPERATIONS = (REPOSITORY / "docs" / "operations.md").read_text()
FOLDER = re.compile(r"`((?:overlays|components|examples|base)/[a-z0-9/-]+)`")
COMMAND = re.compile(
    r"kubectl -n (?P<namespace>[a-z-]+) (?P<verb>port-forward|delete|rollout \w+|get)"
    r" (?P<kind>[a-z]+)[/ ](?P<names>[a-z-]+(?: [a-z-]+)*)"
)
KINDS = {
    "deployment": "Deployment",
    "ingress": "Ingress",
    "scaledobject": "ScaledObject",
    "service": "Service",
}
OF_ALL = ("overlays/prod", "overlays/prod-operators")
OWN = {"summarizer"}
"""Folders that the reader makes."""
OF_THE_BASE = {"process", "restricted", "worker"}
"""Components that only the base uses."""


def objects() -> set[str]:
    return {full_name(one) for name in OF_ALL for one in rendered(name)}


def test_every_folder_that_the_page_names_exists() -> None:
    named = {path for path in FOLDER.findall(OPERATIONS) if path.rpartition("/")[2] not in OWN}
    assert len(named) > 10
    assert [path for path in named if not (KUSTOMIZE / path).exists()] == []


def test_every_object_of_a_command_is_made_by_prod_or_its_operators() -> None:
    found = [match for match in COMMAND.finditer(OPERATIONS) if match["kind"] in KINDS]
    assert len(found) >= 8
    for match in found:
        for name in match["names"].split():
            assert f"{KINDS[match['kind']]}/{match['namespace']}/{name}" in objects(), match[0]


@pytest.mark.parametrize("name", overlays())
def test_every_overlay_and_example_is_on_the_page(name: str) -> None:
    assert f"`{name}`" in OPERATIONS


def test_every_component_that_a_user_chooses_is_on_the_page_or_in_the_operators_overlay() -> None:
    operators = (KUSTOMIZE / "overlays" / "prod-operators" / "kustomization.yaml").read_text()
    for path in KUSTOMIZE.glob("components/*/kustomization.yaml"):
        name = path.parent.name
        assert name in OF_THE_BASE or f"components/{name}`" in OPERATIONS or f"components/{name}" in operators


def test_the_readme_has_it_in_a_few_lines() -> None:
    part = (REPOSITORY / "README.md").read_text().split("\n## On Kubernetes\n")[1].split("\n## ")[0]
    assert len(part.splitlines()) <= 25
    assert "kubectl apply -k overlays/prod" in part
    assert "(docs/operations.md)" in part
