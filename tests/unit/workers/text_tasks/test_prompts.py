"""A model's instructions come from its model.json; a name that it does not have is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inference_mesh.errors import InvalidInputError, ModelNotReadyError
from workers.text_tasks.prompts import Prompts, read_prompts

PROMPTS = {"query": "query: ", "document": "passage: "}


def written(folder: Path, content: object) -> Path:
    """The folder, with this model.json."""
    (folder / "model.json").write_text(json.dumps(content))
    return folder


def test_a_text_gets_the_prompt_that_is_named(tmp_path: Path) -> None:
    prompts = read_prompts(written(tmp_path, {"prompts": PROMPTS, "task": "embed"}))
    assert prompts.prefix("query") == "query: "
    assert prompts.prefix("") == ""


def test_without_a_name_it_is_the_default(tmp_path: Path) -> None:
    prompts = read_prompts(written(tmp_path, {"prompts": PROMPTS, "default_prompt_name": "document"}))
    assert prompts.prefix("") == "passage: "


def test_a_model_without_a_description_has_no_prompts(tmp_path: Path) -> None:
    assert read_prompts(tmp_path) == Prompts()


@pytest.mark.parametrize(("prompts", "known"), [(PROMPTS, "document, query"), ({}, "none")])
def test_an_unknown_name_is_refused_with_those_that_there_are(prompts: dict[str, str], known: str) -> None:
    with pytest.raises(InvalidInputError, match=f"prompt_name is 'other'.*{known}"):
        Prompts(prompts=prompts).prefix("other")


@pytest.mark.parametrize(
    "content", [[], {"prompts": {"query": 1}}, {"prompts": PROMPTS, "default_prompt_name": "other"}]
)
def test_a_wrong_description_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(ModelNotReadyError, match=r"model\.json"):
        read_prompts(written(tmp_path, content))
