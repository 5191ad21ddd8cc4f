"""The file of a host says which models there are, and a wrong one what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference_mesh.config.errors import ConfigError
from workers.host.host_file import read_host_file

GOOD = "- {name: a, model: a.gguf, runtime: llama, task: generate, settings: {slots: 4}}\n"


def read(folder: Path, text: str) -> str:
    """What is said of a file with this text; empty = it is good."""
    path = folder / "host.yaml"
    path.write_text(text)
    try:
        read_host_file(path)
    except ConfigError as error:
        return str(error)
    return ""


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "host.yaml").write_text(f"models:\n{GOOD}")
    (model,) = read_host_file(tmp_path / "host.yaml").models
    assert model.model == tmp_path / "a.gguf"
    assert model.settings == {"slots": 4}


def test_a_bare_list_is_the_models(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + GOOD, "stand twice: a"),
        ("models: []", "models"),
        (GOOD.replace("slots", "slotz"), "no such setting: slotz"),
        (GOOD.replace("slots: 4", "grpc_port: 1"), "no such setting: grpc_port"),
        (GOOD.replace("runtime: llama", "runtime: torch"), "runtime"),
        (GOOD.replace(", task: generate", ""), "task"),
        ("{", "YAML"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    assert said in read(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_host_file(tmp_path / "nowhere.yaml")
