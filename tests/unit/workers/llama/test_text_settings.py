"""What a file is for, how its vectors are made, and how long its texts may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inference_mesh.errors import ModelNotReadyError
from tests.support.bert_files import POSITIONS, TinyBert
from tests.support.gguf_files import llama_file
from workers.llama.gguf_check import GgufSummary, read_gguf
from workers.llama.model_task import default_pooling, task_of
from workers.llama.text_settings import LlamaTextSettings, chosen_pooling, longest_text


def summary_of(folder: Path, data: bytes) -> GgufSummary:
    """The header of a file with these bytes."""
    path = folder / "model.gguf"
    path.write_bytes(data)
    return read_gguf(path)


def settings(**fields: Any) -> LlamaTextSettings:
    """Settings of an engine."""
    return LlamaTextSettings(Path("model.gguf"), "model", **fields)


def test_a_decoder_generates_unless_its_file_tells_of_a_pooling(tmp_path: Path) -> None:
    assert task_of(summary_of(tmp_path, llama_file())) == "generate"
    assert task_of(summary_of(tmp_path, llama_file(llama__pooling_type=0))) == "generate"
    assert task_of(summary_of(tmp_path, llama_file(llama__pooling_type=3))) == "embed"
    assert task_of(summary_of(tmp_path, llama_file(llama__attention__causal=False))) == "embed"


def test_an_encoder_embeds_and_with_a_score_head_it_ranks(tmp_path: Path) -> None:
    assert task_of(summary_of(tmp_path, TinyBert().file())) == "embed"
    assert task_of(summary_of(tmp_path, TinyBert(score_head=True).file())) == "rerank"


def test_the_pooling_is_the_files_else_mean_for_encoders_and_last_for_decoders(tmp_path: Path) -> None:
    assert default_pooling(summary_of(tmp_path, TinyBert(bert__pooling_type=2).file())) == "cls"
    assert default_pooling(summary_of(tmp_path, TinyBert(bert__pooling_type=0).file())) == "mean"
    assert default_pooling(summary_of(tmp_path, llama_file())) == "last"


def test_the_pooling_that_is_set_wins(tmp_path: Path) -> None:
    assert chosen_pooling(settings(pooling="last"), summary_of(tmp_path, TinyBert().file())) == "last"


def test_ranking_without_a_score_head_is_refused_because_llama_cpp_would_not(tmp_path: Path) -> None:
    with pytest.raises(ModelNotReadyError, match="score head"):
        chosen_pooling(settings(task="rerank"), summary_of(tmp_path, TinyBert().file()))


def test_embedding_with_a_ranker_needs_a_pooling_that_is_set(tmp_path: Path) -> None:
    ranker = summary_of(tmp_path, TinyBert(score_head=True, bert__pooling_type=4).file())
    with pytest.raises(ModelNotReadyError, match="pooling"):
        chosen_pooling(settings(), ranker)
    assert chosen_pooling(settings(pooling="cls"), ranker) == "cls"


def test_a_text_is_never_longer_than_the_model_was_trained_on(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, TinyBert().file())
    assert longest_text(settings(), summary, None) == POSITIONS
    assert longest_text(settings(context_tokens=10_000), summary, None) == POSITIONS
    assert longest_text(settings(context_tokens=16), summary, None) == 16


def test_a_long_context_is_taken_only_if_it_is_asked_for(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, llama_file(llama__context_length=100_000))
    assert longest_text(settings(), summary, None) == 2048
    assert longest_text(settings(context_tokens=8192), summary, None) == 8192


@pytest.mark.parametrize(("context", "memory"), [(4, None), (2**31 - 1, 16 << 30), (0, 1 << 20)])
def test_what_does_not_fit_is_refused(tmp_path: Path, context: int, memory: int | None) -> None:
    summary = summary_of(tmp_path, llama_file(llama__context_length=2**31 - 1))
    with pytest.raises(ModelNotReadyError):
        longest_text(settings(context_tokens=context), summary, memory)
