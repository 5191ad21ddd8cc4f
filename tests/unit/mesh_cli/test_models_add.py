"""`mesh models add`: a user's own file into mesh.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mesh_cli.mesh_edit import with_model
from mesh_cli.mesh_file import default_text, parse_mesh
from mesh_cli.mesh_schema import MeshModel
from tests.support.meshes import mesh

MODEL = MeshModel(name="mine", path="mine.gguf", task="generate", replicas=2)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "My Model_Q4.gguf"
    path.write_bytes(b"GGUF" + bytes(64))
    return path


def test_a_file_is_added_to_a_new_mesh_file(tmp_path: Path, gguf: Path) -> None:
    ended = mesh("models", "add", gguf.name, "--task", "generate", "--replicas", "2", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    document = yaml.safe_load((tmp_path / "mesh.yaml").read_text())
    assert document == {
        "version": 1,
        "models": [{"name": "my-model-q4", "path": gguf.name, "task": "generate", "replicas": 2}],
    }


def test_comments_of_the_mesh_file_stay(tmp_path: Path, gguf: Path) -> None:
    config = tmp_path / "mesh.yaml"
    config.write_text(default_text())
    ended = mesh("models", "add", gguf.name, "--name", "mine", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert config.read_text().startswith(default_text())
    assert [model.name for model in parse_mesh(config.read_text()).models][-1] == "mine"


@pytest.mark.parametrize(
    "text",
    [
        "- name: a\n  path: a.onnx\n",
        "# mine\nmodels:\n- name: a\n  path: a.onnx # here\n\n\n",
        "version: 1\nmodels:\n      - {name: a, path: a.onnx}\n      # last\n",
    ],
)
def test_a_block_list_in_any_indentation_is_added_to(text: str) -> None:
    added = with_model(text, MODEL, source="mesh.yaml")
    assert added.startswith(text.rstrip())
    assert parse_mesh(added).models[-1] == MODEL


@pytest.mark.parametrize(
    "text", ["models: [{name: a, path: a.onnx}]\n", "models:\n- {name: a, path: a.onnx}\nversion: 1\n"]
)
def test_a_file_in_another_form_is_left_alone_with_what_to_add(tmp_path: Path, gguf: Path, text: str) -> None:
    config = tmp_path / "mesh.yaml"
    config.write_text(text)
    ended = mesh("models", "add", gguf.name, "--name", "mine", cwd=tmp_path)
    assert ended.returncode == 2
    assert "- name: mine" in ended.stderr
    assert config.read_text() == text


def test_a_name_that_is_taken_is_refused(tmp_path: Path, gguf: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("- {name: a, path: a.onnx, aliases: [mine]}\n")
    ended = mesh("models", "add", gguf.name, "--name", "mine", cwd=tmp_path)
    assert (ended.returncode, "already" in ended.stderr) == (2, True)


@pytest.mark.parametrize(
    ("name", "content"), [("a.gguf", b"nope"), ("a.onnx", b""), ("a.bin", b"GGUF"), ("gone.gguf", None)]
)
def test_a_file_that_cannot_be_a_model_is_refused(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    ended = mesh("models", "add", name, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert not (tmp_path / "mesh.yaml").exists()
