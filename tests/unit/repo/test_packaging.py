from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from scripts.check_repository import text_problems

ROOT = Path(__file__).parents[3]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)
NOT_DISTRIBUTED = {"observability", "tests"}
"""Packages that developers use from a checkout."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(*names: str) -> set[str]:
    return {
        normal(package)
        for name in names
        for package, _ in PIN.findall((ROOT / "requirements" / f"{name}.txt").read_text())
    }


def test_every_package_of_the_repository_is_in_the_distribution() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - NOT_DISTRIBUTED
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == folders


def test_the_command_is_a_function() -> None:
    module, function = PROJECT["project"]["scripts"]["mesh"].split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_all_that_pyproject_asks_for_is_pinned() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *(need for name in extras for need in extras[name])]
    names = {normal(re.split(r"[\[<>=!~ ;]", need, maxsplit=1)[0]) for need in wanted}
    assert names - pins("dev", "llama") == {"inference-mesh", "onnxruntime-gpu"}


@pytest.mark.parametrize("name", ["build", "dev", "llama"])
def test_every_pin_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", text)[1:]
    assert entries
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text
    assert "index-url" not in text


@pytest.mark.parametrize(
    "line",
    [
        "see /home/" + "somebody/model.gguf",
        "pip install --index-url py" + "pi.org",
        "-----BEGIN RSA PRIVATE" + " KEY-----",
        "key: mesh_" + "abcd1234_" + "x" * 43,
    ],
)
def test_what_must_not_be_committed_is_noticed(line: str) -> None:
    assert len(list(text_problems("notes.txt", f"first\n{line}\n"))) == 1


def test_long_files_and_functions_are_noticed() -> None:
    long_function = "def f():\n" + "    pass\n" * 60
    assert len(list(text_problems("a.py", long_function))) == 1
    assert len(list(text_problems("a.py", "x = 1\n" * 401))) == 1
    assert list(text_problems("a_pb2.py", "x = 1\n" * 401)) == []


def test_every_target_of_the_makefile_has_a_line_of_help() -> None:
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    names = {name for line in re.findall(r"^[.]PHONY:(.*)$", text, re.MULTILINE) for name in line.split()}
    assert names == set(re.findall(r"^([a-z0-9-]+):[^#\n]*## ", text, re.MULTILINE))
