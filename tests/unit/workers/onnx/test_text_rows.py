"""Texts on their way into a graph and out of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference_mesh.errors import InputTooLongError, InvalidInputError, ModelNotReadyError
from tests.support.onnx_models import WORDS, write_tokenizer
from workers.onnx.classify import probabilities
from workers.onnx.model_files import Description
from workers.onnx.scheduler import retry_hint_s
from workers.onnx.sessions import Array, Feeds
from workers.onnx.signature import Signature, TensorInfo
from workers.onnx.text_rows import TextRows, looks_like_text, pool, text_row
from workers.onnx.tokenizer import Tokenizer
from workers.text_tasks.answers import normalised
from workers.text_tasks.texts import check_texts

IDS = TensorInfo("input_ids", "INT64", (-1, -1))
MASK = TensorInfo("attention_mask", "INT32", (-1, -1))
TYPES = TensorInfo("token_type_ids", "INT64", (-1, -1))
HIDDEN = TensorInfo("last_hidden_state", "FP32", (-1, -1, 4))
POOLED = TensorInfo("embedding", "FP32", (-1, 4))


def _signature(*infos: TensorInfo) -> Signature:
    outputs = {info.name: info for info in infos if info in (HIDDEN, POOLED)}
    return Signature({info.name: info for info in infos if info.name not in outputs}, outputs)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    """Whole words, at most 8 tokens."""
    write_tokenizer(tmp_path)
    return Tokenizer(tmp_path / "tokenizer.json", max_tokens=8)


def test_the_padding_and_truncation_of_the_file_are_off(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("a dog", "text").ids == [2, 4, 7, 3]
    assert len(tokenizer.encode_cut("a dog " * 20)) == 8
    with pytest.raises(InputTooLongError):
        tokenizer.encode("a dog " * 20, "text")


def test_a_cut_text_keeps_its_last_special_token(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_cut("dog " * 20).ids == [2, *[7] * 6, 3]


def test_the_limit_comes_from_the_files_where_none_is_given(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    assert Tokenizer(tmp_path / "tokenizer.json", max_tokens=0).max_tokens == 16
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 12}')
    assert Tokenizer(tmp_path / "tokenizer.json", max_tokens=0).max_tokens == 12
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 1e30}')
    assert Tokenizer(tmp_path / "tokenizer.json", max_tokens=0).max_tokens == 16


def test_a_limit_that_holds_no_word_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    with pytest.raises(ModelNotReadyError):
        Tokenizer(tmp_path / "tokenizer.json", max_tokens=2)


def test_rows_are_padded_to_the_longest_and_masked(tokenizer: Tokenizer) -> None:
    seen: dict[str, Array] = {}

    def run(_outputs: object, feeds: Feeds) -> list[Array]:
        seen.update(feeds)
        return [np.zeros((2, 4), np.float32)]

    kind = TextRows(_signature(IDS, MASK, TYPES, POOLED), Description(), pad_id=9)
    pair = tokenizer.encode_pair("a", "dog cat", "pair")
    kind.compute([text_row(0, tokenizer.encode("a", "text")), text_row(1, pair)], run)
    assert seen["input_ids"].tolist() == [[2, 4, 3, 9, 9, 9], [2, 4, 3, 7, 8, 3]]
    assert seen["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    assert seen["token_type_ids"].tolist() == [[0] * 6, [0, 0, 0, 1, 1, 1]]
    assert seen["attention_mask"].dtype == np.int32
    assert WORDS[7] == "dog"


def test_a_mean_leaves_padding_out_and_cls_is_the_first_token() -> None:
    hidden = np.array([[[1.0, 2.0], [3.0, 4.0], [90.0, 90.0]]], np.float32)
    mask = np.array([[True, True, False]])
    assert pool(hidden, mask, "mean").tolist() == [[2.0, 3.0]]
    assert pool(hidden, mask, "cls").tolist() == [[1.0, 2.0]]
    assert pool(hidden[:, 0], mask, "in-graph").tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("signature", "description"),
    [
        (_signature(MASK, POOLED), Description()),
        (_signature(IDS, TensorInfo("pixels", "FP32", (-1,)), POOLED), Description()),
        (_signature(TensorInfo("input_ids", "FP32", (-1, -1)), POOLED), Description()),
        (_signature(IDS), Description()),
        (_signature(IDS, POOLED), Description(output="other")),
        (_signature(IDS, POOLED), Description(pooling="mean")),
        (_signature(IDS, HIDDEN), Description(pooling="in-graph")),
    ],
)
def test_a_graph_that_is_not_one_for_texts_is_refused(signature: Signature, description: Description) -> None:
    with pytest.raises(ModelNotReadyError):
        TextRows(signature, description, pad_id=0)


def test_a_pooled_output_is_preferred_to_token_vectors() -> None:
    assert not TextRows(_signature(IDS, HIDDEN, POOLED), Description(), pad_id=0).pools_here
    assert TextRows(_signature(IDS, HIDDEN), Description(), pad_id=0).pools_here
    assert looks_like_text(_signature(IDS, HIDDEN))
    assert not looks_like_text(_signature(MASK, HIDDEN))


def test_a_zero_vector_stays_zero_when_normalised() -> None:
    vectors = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    assert normalised(vectors).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]


def test_probabilities_stay_finite_for_large_logits() -> None:
    logits = np.array([1e4, -1e4], np.float32)
    assert probabilities(logits, "softmax").tolist() == [1.0, 0.0]
    assert probabilities(logits, "sigmoid").tolist() == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize("texts", [[], ["a"] * 2049, ["a", ""]])
def test_too_few_too_many_and_empty_texts_are_refused(texts: list[str]) -> None:
    with pytest.raises(InvalidInputError):
        check_texts(texts, "texts")


def test_the_retry_hint_is_the_time_of_half_the_queue_within_bounds() -> None:
    assert retry_hint_s(rows=100, row_s=0.02) == 1.0
    assert retry_hint_s(rows=1, row_s=0.0) == 0.1
    assert retry_hint_s(rows=100_000, row_s=1.0) == 30.0
