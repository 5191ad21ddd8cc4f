"""The GGUF file that ships: its metadata is what the worker needs, and it answers easy questions."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from models.tiny_chat.chat import END, SPECIAL_TOKENS, TEMPLATE, Message
from models.tiny_chat.evaluate import DEFAULT_MODEL, Answer, load

Ask = Callable[[Sequence[Message]], Answer]

EASY = {
    "What colour is grass?": "Grass is green.",
    "What colour is the sky?": "The sky is blue.",
    "What is the opposite of hot?": "The opposite of hot is cold.",
    "What is 2 plus 3?": "2 plus 3 is 5.",
    "Count from 1 to 5.": "1, 2, 3, 4, 5.",
    "What day comes after Monday?": "The day after Monday is Tuesday.",
    "What sound does a dog make?": "A dog says woof.",
    "Who are you?": "I am Tiny, a very small language model of the mesh.",
    "What is a worker?": "A worker is a process that runs one model and answers over gRPC.",
    "Hello!": "Hello! How can I help you?",
}

_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    """The key-value part of the file's header."""
    return _read_metadata(DEFAULT_MODEL)


@pytest.fixture(scope="module")
def ask() -> Ask:
    """The model, greedy, through llama.cpp."""
    pytest.importorskip("llama_cpp")
    return load()


def test_the_file_is_small_enough_to_ship() -> None:
    assert DEFAULT_MODEL.stat().st_size < 4_000_000


def test_the_metadata_name_the_model_and_its_licence(metadata: dict[str, Any]) -> None:
    assert metadata["general.architecture"] == "llama"
    assert metadata["general.name"] == "Tiny Chat"
    assert metadata["general.license"] == "Apache-2.0"
    assert metadata["general.author"]
    assert metadata["llama.context_length"] == 2048


def test_the_vocabulary_is_one_that_llama_cpp_survives(metadata: dict[str, Any]) -> None:
    tokens = metadata["tokenizer.ggml.tokens"]
    assert len(set(tokens)) == len(tokens) == metadata["llama.vocab_size"]
    assert (metadata["tokenizer.ggml.model"], metadata["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    assert metadata["tokenizer.ggml.add_bos_token"] is False


def test_an_answer_ends_with_the_token_that_the_metadata_name(metadata: dict[str, Any]) -> None:
    tokens = metadata["tokenizer.ggml.tokens"]
    assert tokens[metadata["tokenizer.ggml.eos_token_id"]] == END
    assert tokens[metadata["tokenizer.ggml.eot_token_id"]] == END
    control = [
        token for token, kind in zip(tokens, metadata["tokenizer.ggml.token_type"], strict=True) if kind == 3
    ]
    assert control == list(SPECIAL_TOKENS)


def test_the_chat_template_is_in_the_file(metadata: dict[str, Any]) -> None:
    assert metadata["tokenizer.chat_template"] == TEMPLATE


def test_it_answers_easy_questions(ask: Ask) -> None:
    answers = {question: ask([Message("user", question)]) for question in EASY}
    exact = [question for question, answer in answers.items() if answer == Answer(EASY[question], True)]
    assert len(exact) >= 8, answers


def test_a_story_comes_to_its_end(ask: Ask) -> None:
    answer = ask([Message("user", "Tell me a story about a fox.")])
    assert answer.is_ended
    assert answer.text.startswith("Once upon a time")


def test_it_answers_in_a_longer_conversation(ask: Ask) -> None:
    said = [Message("user", "What colour is grass?"), Message("assistant", "Grass is green.")] * 3
    assert ask([*said, Message("user", "Hello!")]) == Answer("Hello! How can I help you?", True)


def _read_metadata(path: Path) -> dict[str, Any]:
    """Source: the GGUF specification, version 3."""
    with path.open("rb") as file:
        assert file.read(4) == b"GGUF"
        version, _, entries = struct.unpack("<IQQ", file.read(20))
        assert version == 3
        return {_text(file): _value(file, _number(file, "<I")) for _ in range(entries)}


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _text(file)
    if kind == _ARRAY:
        item_kind, count = _number(file, "<I"), _number(file, "<Q")
        return [_value(file, item_kind) for _ in range(count)]
    return struct.unpack(_SCALARS[kind], file.read(struct.calcsize(_SCALARS[kind])))[0]


def _number(file: BinaryIO, layout: str) -> int:
    return int(struct.unpack(layout, file.read(struct.calcsize(layout)))[0])


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "<Q")).decode()
