"""What the documents name exists: functions, files, links, make targets."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from mesh_cli.main import make_app

ROOT = Path(__file__).parents[3]
SKIPPED = {".venv", "build", "node_modules"}
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.md") if not SKIPPED & {*path.parts}
)

FUNCTION = re.compile(r"\b((?:[a-z_]+/)+[a-z_]+\.py):([A-Za-z_]\w*(?:\.\w+)*)")
LINK = re.compile(r"\]\(([^)#\s:]+)(?:#[^)\s]*)?\)")
CODE = re.compile(r"`([^`\n]+)`")
TARGETS = re.compile(r"^(?:[$] )?make ((?:[a-z-]+ ?)+)", re.MULTILINE)
MESH = re.compile(r"^(?:[$] )?(?:[.]venv/bin/)?(mesh [a-z].*)$", re.MULTILINE)
LIFE = "docs/life_of_a_request.md"


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def names_of(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """The qualified names of all functions and classes of a module."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield prefix + node.name
            yield from names_of(node, f"{prefix}{node.name}.")


def missing_functions(text: str) -> list[str]:
    """Each `path.py:name` of a text that names nothing."""
    missing = []
    for path, name in FUNCTION.findall(text):
        file = ROOT / path
        if not file.is_file() or name not in names_of(ast.parse(file.read_text())):
            missing.append(f"{path}:{name}")
    return missing


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):", text_of("Makefile"), re.MULTILINE))


def code_of(text: str) -> str:
    """Code spans and fenced blocks, one a line."""
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return "\n".join([*CODE.findall(text), *fenced])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_function_that_a_document_names_exists(document: str) -> None:
    assert missing_functions(text_of(document)) == []


def test_the_life_of_a_request_is_told_by_functions() -> None:
    assert len(FUNCTION.findall(text_of(LIFE))) >= 15


def test_a_name_that_is_gone_is_noticed() -> None:
    wrong = "`gateway/server.py:NoSuchThing.start`, `gateway/nowhere.py:f`"
    assert missing_functions(wrong) == ["gateway/server.py:NoSuchThing.start", "gateway/nowhere.py:f"]
    assert missing_functions("`inference_mesh/errors.py:MeshError.__init__`") == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_to_a_file(document: str) -> None:
    folder = (ROOT / document).parent
    links = LINK.findall(text_of(document))
    assert [link for link in links if not (folder / link).exists() and not link.startswith("//")] == []


def test_every_place_in_the_table_of_ideas_exists() -> None:
    rows = [line for line in text_of("README.md").splitlines() if line.startswith("| ")]
    places = [cell for row in rows for cell in CODE.findall(row.split("|")[-2]) if "/" in cell]
    assert len(places) >= 10
    missing = [
        place
        for place in places
        if " " not in place and not (ROOT / place.split(":")[0].rstrip("*")).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_that_a_document_names_exists(document: str) -> None:
    named = {target for line in TARGETS.findall(code_of(text_of(document))) for target in line.split()}
    assert named - make_targets() == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_mesh_command_that_a_document_shows_is_understood(document: str) -> None:
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```", text_of(document), re.MULTILINE | re.DOTALL)
    for line in MESH.findall("\n".join(fenced)):
        command, arguments = typer.main.get_command(make_app()), shlex.split(line, comments=True)
        while isinstance(command, typer.core.TyperGroup):
            command, arguments = command.commands[arguments[1]], arguments[1:]
        command.make_context(arguments[0], arguments[1:])
