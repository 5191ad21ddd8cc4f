"""The yaml examples of docs/policy.md are files that the gateway takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from inference_mesh.config.keys_file import parse_keys
from inference_mesh.config.models_file import parse_models
from inference_mesh.config.tenants_file import parse_tenants

POLICY = Path(__file__).parents[3] / "docs" / "policy.md"
EXAMPLE = re.compile(r"^```yaml\n# (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PARSERS: dict[str, Callable[[str], object]] = {
    "models.yaml": parse_models,
    "tenants.yaml": parse_tenants,
    "keys.yaml": parse_keys,
}


def examples() -> list[tuple[str, str]]:
    """The file that each example is of, and its text."""
    return [(match[1], match[2]) for match in EXAMPLE.finditer(POLICY.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("file", "text"), examples())
def test_an_example_of_the_policy_page_is_a_good_file(file: str, text: str) -> None:
    assert PARSERS[file](text)


def test_every_yaml_block_of_the_policy_page_says_which_file_it_is_of() -> None:
    assert len(examples()) == POLICY.read_text(encoding="utf-8").count("```yaml")


def test_the_policy_page_shows_each_file() -> None:
    assert {file for file, _ in examples()} == set(PARSERS)
