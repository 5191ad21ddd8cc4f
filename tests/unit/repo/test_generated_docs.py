from __future__ import annotations

import re
from pathlib import Path

import pytest

from inference_mesh.errors import HTTP_STATUS, all_error_classes
from scripts.generate_docs import DOCS, SERVICES, pages
from scripts.generate_protos import ROOT, differences, generate

METRIC_NAME = re.compile(r'"(mesh_[a-z_]+)"')


@pytest.mark.parametrize("name", ["configuration.md", "errors.md", "metrics.md"])
def test_a_generated_page_says_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text() == pages()[name], "run `make generate`"


def test_the_committed_stubs_are_those_of_the_protos(tmp_path: Path) -> None:
    generate(tmp_path)
    assert differences(tmp_path, ROOT) == [], "run `make generate`"


def test_every_error_stands_in_the_page_with_its_status() -> None:
    page = pages()["errors.md"]
    for error in all_error_classes():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{error.reason}` |"))
        assert error.code.name in row
        assert HTTP_STATUS[error.code] >= 400


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_stands_in_the_page_with_a_meaning(service: str) -> None:
    page = pages()["configuration.md"]
    prefix = SERVICES[service].model_config["env_prefix"]
    for name, field in SERVICES[service].model_fields.items():
        assert field.description, f"{service}: {name} has no description"
        assert f"`{prefix}{name.upper()}`" in page


def test_every_metric_of_the_code_stands_in_the_page() -> None:
    page = pages()["metrics.md"]
    files = [path for path in ROOT.glob("*/**/metrics.py") if path.is_relative_to(ROOT / "gateway")]
    named = {name for path in files for name in METRIC_NAME.findall(path.read_text())}
    assert len(named) > 30
    assert {name for name in named if f"`{name}`" not in page} == set()


def test_every_part_of_a_file_is_told() -> None:
    page = pages()["configuration.md"]
    parts = ("versions", "canary", "canary.steps", "canary.guards", "limits", "limits.tokens", "defaults")
    assert [part for part in parts if f"### {part}\n" not in page] == []
