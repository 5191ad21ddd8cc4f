"""`mesh config check`: what is wrong, where, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mesh_cli.config_kinds import FileKind, kind_of
from tests.support.meshes import mesh

MESH_WITH_FAULTS = """\
version: 1
models:
  - name: Good Name
    path: a.gguf
  - name: b
    path: b.gguf
    replica: 2
    slots: 0
"""


def _checked(tmp_path: Path, name: str, text: str, *flags: str) -> tuple[int, str]:
    (tmp_path / name).write_text(text)
    ended = mesh("config", "check", name, *flags, cwd=tmp_path)
    return ended.returncode, ended.stdout + ended.stderr


def test_every_fault_of_a_mesh_file_is_told_with_its_line(tmp_path: Path) -> None:
    code, told = _checked(tmp_path, "mesh.yaml", MESH_WITH_FAULTS)
    assert code == 1
    assert "mesh.yaml: line 3: models[0].name: is 'Good Name'" in told
    assert "line 7: models[1].replica: no such key; did you mean 'replicas'?" in told
    assert "line 8: models[1].slots: is 0" in told
    assert "Traceback" not in told


def test_more_slots_than_a_worker_takes_are_told(tmp_path: Path) -> None:
    code, told = _checked(tmp_path, "mesh.yaml", "- {name: a, path: gone.gguf, slots: 257}\n")
    assert (code, "models[0].slots: is 257" in told) == (1, True)


def test_a_model_whose_file_is_not_there_is_told_with_its_line(tmp_path: Path) -> None:
    code, told = _checked(tmp_path, "mesh.yaml", "- name: a\n  path: gone.gguf\n")
    assert code == 1
    assert "line 2: models[0].path: there is nothing at" in told


def test_a_file_that_is_not_gguf_inside_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"ZIP!....")
    code, told = _checked(tmp_path, "mesh.yaml", "- name: a\n  path: a.gguf\n")
    assert (code, "is not a GGUF file" in told) == (1, True)


def test_a_name_that_stands_twice_is_told_with_both(tmp_path: Path) -> None:
    text = "- {name: a, path: x.onnx}\n- {name: b, path: y.onnx, aliases: [a]}\n"
    code, told = _checked(tmp_path, "mesh.yaml", text)
    assert code == 1
    assert "line 2: models[1].aliases[0]: 'a' stands twice, first for 'a'" in told


def test_an_unknown_embedded_model_is_told_with_those_there_are(tmp_path: Path) -> None:
    code, told = _checked(tmp_path, "mesh.yaml", "- {name: a, path: 'embedded:llama'}\n")
    assert code == 1
    assert "there is no embedded model 'llama'; there are iris, minilm, tiny-chat" in told


def test_a_registry_is_known_by_its_content_and_checked_as_one(tmp_path: Path) -> None:
    code, told = _checked(tmp_path, "any.yaml", "- name: a\n  service: a:1\n  timeout_: 3\n")
    assert code == 1
    assert "any.yaml: line 3: models[0].timeout_: no such key; did you mean 'timeout_s'?" in told


def test_a_keys_file_is_known_by_its_content_and_checked_as_one(tmp_path: Path) -> None:
    code, told = _checked(tmp_path, "any.yaml", "keys:\n  - id: short\n    sha256: x\n")
    assert code == 1
    assert "line 2: keys[0].id" in told


def test_a_good_file_is_told_so(tmp_path: Path) -> None:
    code, told = _checked(tmp_path, "models.yaml", "- {name: a, service: a}\n")
    assert (code, told.strip()) == (0, "models.yaml: is a good models.yaml")


def test_the_same_as_json(tmp_path: Path) -> None:
    code, told = _checked(tmp_path, "mesh.yaml", "- name: a\n  path: gone.gguf\n", "--json")
    document = json.loads(told)
    assert code == 1
    assert document["ok"] is False
    assert [(one["line"], one["where"]) for one in document["problems"]] == [(2, "models[0].path")]


@pytest.mark.parametrize("text", ["models: [", "\t- a", "a: *b"])
def test_text_that_is_not_yaml_is_a_problem_with_a_line(tmp_path: Path, text: str) -> None:
    code, told = _checked(tmp_path, "mesh.yaml", text)
    assert code == 1
    assert "mesh.yaml: line 1: not valid YAML" in told


def test_a_file_that_cannot_be_read_at_all_has_problems_whatever_its_name(tmp_path: Path) -> None:
    code, told = _checked(tmp_path, "any.yaml", "a: [b: {", "--json")
    assert (code, json.loads(told)["kind"]) == (1, None)
    assert json.loads(told)["problems"][0]["line"] == 1
    (tmp_path / "any.yaml").write_bytes(b"\xff\xfe\x00")
    ended = mesh("config", "check", "any.yaml", cwd=tmp_path)
    assert (ended.returncode, "UTF-8" in ended.stderr) == (1, True)


@pytest.mark.parametrize("arguments", [("gone.yaml",), ("odd.txt",)])
def test_a_file_that_cannot_be_told_or_found_is_a_usage_error(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "odd.txt").write_text("a: 1\n")
    ended = mesh("config", "check", *arguments, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("text", "name", "kind"),
    [
        ("keys: []", "x", FileKind.KEYS),
        ("models: [{name: a, endpoints: ['h:1']}]", "mesh.yaml", FileKind.MODELS),
        ("[{name: a, path: /infer, service: s}]", "x", FileKind.MODELS),
        ("[{name: a, path: a.gguf}]", "models.yaml", FileKind.MESH),
        ("[", "models.yaml", FileKind.MODELS),
        ("[", "x", None),
    ],
)
def test_the_kind_follows_from_the_content_before_the_name(
    text: str, name: str, kind: FileKind | None
) -> None:
    assert kind_of(text, name) is kind


def test_a_tenants_file_is_known_by_its_content_and_checked_with_its_key_files(tmp_path: Path) -> None:
    good = "tenants:\n  - name: acme\n    limits: {requests_per_second: 5}\n"
    assert _checked(tmp_path, "any.yaml", good) == (0, "any.yaml: is a good tenants.yaml\n")
    code, told = _checked(tmp_path, "any.yaml", "tenants:\n  - name: acme\n    priority: urgent\n")
    assert (code, "line 3: tenants[0].priority" in told) == (1, True)
    issuer = "issuers:\n  - issuer: i\n    audience: a\n    jwks_file: gone.json\n"
    code, told = _checked(tmp_path, "any.yaml", issuer)
    assert (code, "line 4: issuers[0].jwks_file" in told) == (1, True)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("- {name: a, versions: [{version: '1', service: 'a:1'}]}", FileKind.MODELS),
        ("- {name: a, versions: [{version: '1', path: a.gguf}]}", FileKind.MESH),
        ("- {name: a, service: 'a:1', path: /infer}", FileKind.MODELS),
        ("- {name: a, limits: {}}", None),
        ("issuers: []", FileKind.TENANTS),
        ("- {name: a, versions: 3}", None),
    ],
)
def test_a_registry_and_a_mesh_file_with_versions_are_told_apart(text: str, kind: FileKind | None) -> None:
    assert kind_of(text, "any.yaml") is kind
