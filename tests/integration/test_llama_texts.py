"""Embeddings and ranking of GGUF models, computed by llama.cpp and held against numpy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from inference_mesh.errors import (
    DeadlineExceededError,
    InputTooLongError,
    InvalidInputError,
    ModelNotReadyError,
    PayloadMismatchError,
    ShuttingDownError,
    TokenBudgetError,
)
from inference_mesh.v1 import payload_pb2
from tests.support.bert_files import CLS, POSITIONS, SEP, WIDTH, WORDS, TinyBert
from tests.support.gguf_files import llama_file
from tests.support.llama_texts import answer, embed, rerank, running_texts, vectors
from workers.llama.text_engine import LlamaTextEngine

BERT = TinyBert()
RANKER = TinyBert(1, score_head=True)
TEXTS = [" ".join(WORDS[start : start + count]) for start, count in ((0, 3), (5, 10), (2, 1), (7, 30))]
LONG = " ".join(WORDS) + " " + " ".join(WORDS)
SAME = 1e-4
AS_THE_REFERENCE = 1e-3
"""llama.cpp looks the GELU up in a table of 16-bit numbers."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    (folder / "bert.gguf").write_bytes(BERT.file())
    (folder / "ranker.gguf").write_bytes(RANKER.file())
    (folder / "mean.gguf").write_bytes(llama_file(llama__pooling_type=1))
    (folder / "last.gguf").write_bytes(llama_file(llama__pooling_type=3))
    return folder


@pytest.fixture
async def bert(folder: Path) -> AsyncIterator[LlamaTextEngine]:
    async with running_texts(folder / "bert.gguf") as engine:
        yield engine


@pytest.fixture
async def ranker(folder: Path) -> AsyncIterator[LlamaTextEngine]:
    async with running_texts(folder / "ranker.gguf", task="rerank") as engine:
        yield engine


async def test_vectors_are_those_of_the_reference(bert: LlamaTextEngine) -> None:
    expected = np.stack([BERT.embedding([CLS, *BERT.ids(text), SEP]) for text in TEXTS])
    np.testing.assert_allclose(await vectors(bert, TEXTS), expected, atol=AS_THE_REFERENCE)


@pytest.mark.parametrize("name", ["bert", "mean", "last"])
async def test_a_vector_does_not_depend_on_its_neighbours_in_the_batch(folder: Path, name: str) -> None:
    async with running_texts(folder / f"{name}.gguf") as engine:
        together = await asyncio.gather(*(vectors(engine, [text]) for text in TEXTS * 4))
        for found, text in zip(together, TEXTS * 4, strict=True):
            np.testing.assert_allclose(found, await vectors(engine, [text]), atol=SAME)


async def test_every_vector_has_length_1_also_when_it_is_cut(bert: LlamaTextEngine) -> None:
    whole, cut = await vectors(bert, TEXTS), await vectors(bert, TEXTS, dimensions=5)
    assert cut.shape == (len(TEXTS), 5)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(cut, whole[:, :5] / np.linalg.norm(whole[:, :5], axis=1)[:, None], atol=1e-5)


async def test_the_pooling_can_be_set(folder: Path) -> None:
    ids = [CLS, *BERT.ids(TEXTS[1]), SEP]
    for pooling, place in (("cls", 0), ("last", -1)):
        async with running_texts(folder / "bert.gguf", pooling=pooling) as engine:
            expected = BERT.hidden(ids)[place]
            found = await vectors(engine, [TEXTS[1]])
            np.testing.assert_allclose(found[0], expected / np.linalg.norm(expected), atol=AS_THE_REFERENCE)


async def test_the_model_says_what_it_is_and_usage_counts_tokens(bert: LlamaTextEngine) -> None:
    assert bert.model.task == payload_pb2.TASK_EMBED
    assert (bert.model.dimensions, bert.model.max_tokens) == (WIDTH, POSITIONS)
    chunk = await answer(bert, embed(TEXTS))
    assert chunk.usage is not None
    assert chunk.usage.prompt_tokens == sum(len(text.split()) + 2 for text in TEXTS)


async def test_a_text_that_is_too_long_is_refused_with_both_numbers_or_cut(bert: LlamaTextEngine) -> None:
    with pytest.raises(InputTooLongError, match=f"82 tokens.*{POSITIONS}"):
        await vectors(bert, ["word1", LONG])
    chunk = await answer(bert, embed([LONG], truncate=True))
    assert chunk.usage is not None
    assert chunk.usage.prompt_tokens == POSITIONS
    ids = [CLS, *BERT.ids(LONG)[: POSITIONS - 2], SEP]
    np.testing.assert_allclose(
        (await vectors(bert, [LONG], truncate=True))[0], BERT.embedding(ids), atol=AS_THE_REFERENCE
    )


async def test_token_ids_are_taken_as_they_stand(bert: LlamaTextEngine) -> None:
    ids = [CLS, *BERT.ids(TEXTS[0]), SEP]
    np.testing.assert_allclose(await vectors(bert, ids=[ids]), await vectors(bert, [TEXTS[0]]), atol=SAME)
    unknown = len(BERT.vocabulary)
    wrong_ids: list[list[list[int]]] = [[[unknown]], [[]], [[5] * (POSITIONS + 1)]]
    for wrong in wrong_ids:
        with pytest.raises(InvalidInputError, match=r"tokens\[0\]"):
            await vectors(bert, ids=wrong)
    assert (await vectors(bert, ids=[[5] * (POSITIONS + 1)], truncate=True)).shape == (1, WIDTH)


@pytest.mark.parametrize(
    "payload",
    [
        embed([]),
        embed([""]),
        embed(["a"] * 2049),
        embed(["a"], dimensions=WIDTH + 1),
        embed(["a"], prompt_name="query"),
        embed(["a"], ids=[[5]]),
        embed(ids=[[5]], prompt_name="query"),
    ],
)
async def test_what_is_out_of_range_is_refused(bert: LlamaTextEngine, payload: payload_pb2.Payload) -> None:
    with pytest.raises(InvalidInputError):
        await answer(bert, payload)
    assert bert.load_now().queued == 0


async def test_another_kind_of_payload_is_refused(bert: LlamaTextEngine, ranker: LlamaTextEngine) -> None:
    with pytest.raises(PayloadMismatchError):
        await answer(bert, rerank("a", ["b"]))
    with pytest.raises(PayloadMismatchError):
        await answer(ranker, embed(["a"]))


@pytest.mark.parametrize("text", [" ", "\0", "\ud7ff", "🐶", "[SEP]", "a" * 12_000, "\u200d"])
async def test_strange_texts_are_answered_or_refused(bert: LlamaTextEngine, text: str) -> None:
    try:
        assert np.isfinite(await vectors(bert, [text])).all()
    except InvalidInputError as error:
        assert error.message


async def test_names_of_control_tokens_are_plain_text(bert: LlamaTextEngine) -> None:
    chunk = await answer(bert, embed(["[SEP]"]))
    assert chunk.usage is not None
    assert chunk.usage.prompt_tokens > 3


async def test_prompts_come_from_the_description_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "bert.gguf").write_bytes(BERT.file())
    description = {"prompts": {"query": "word1 ", "document": "word2 "}, "default_prompt_name": "document"}
    (tmp_path / "model.json").write_text(json.dumps(description))
    async with running_texts(tmp_path / "bert.gguf") as engine:
        plain = await vectors(engine, ids=[[CLS, *BERT.ids("word1 word3"), SEP]])
        np.testing.assert_allclose(await vectors(engine, ["word3"], prompt_name="query"), plain, atol=SAME)
        by_default = await vectors(engine, ids=[[CLS, *BERT.ids("word2 word3"), SEP]])
        np.testing.assert_allclose(await vectors(engine, ["word3"]), by_default, atol=SAME)


async def test_scores_are_those_of_the_reference_and_the_best_comes_first(ranker: LlamaTextEngine) -> None:
    query = "word1 word2"
    chunk = await answer(ranker, rerank(query, TEXTS))
    found = [(one.index, one.score) for one in chunk.output.rerank.documents]
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    for index, score in found:
        ids = [CLS, *RANKER.ids(query), SEP, *RANKER.ids(TEXTS[index])]
        assert score == pytest.approx(RANKER.score(ids), abs=AS_THE_REFERENCE)
    best = await answer(ranker, rerank(query, TEXTS, top_n=2))
    assert [one.index for one in best.output.rerank.documents] == [index for index, _ in found[:2]]


async def test_a_document_that_is_too_long_is_refused_or_cut_and_a_query_is_never_cut(
    ranker: LlamaTextEngine,
) -> None:
    with pytest.raises(InputTooLongError, match=r"documents\[1\]"):
        await answer(ranker, rerank("word1", ["word2", LONG]))
    chunk = await answer(ranker, rerank("word1", [LONG], truncate=True))
    ids = [CLS, *RANKER.ids("word1"), SEP, *RANKER.ids(LONG)][:POSITIONS]
    assert chunk.output.rerank.documents[0].score == pytest.approx(RANKER.score(ids), abs=AS_THE_REFERENCE)
    with pytest.raises(InputTooLongError):
        await answer(ranker, rerank(LONG, ["word1"], truncate=True))
    with pytest.raises(InvalidInputError):
        await answer(ranker, rerank("", ["word1"]))


async def test_a_templates_pair_is_written_as_it_says(tmp_path: Path) -> None:
    template = "word5 {query} word6 {document} [SEP]"
    (tmp_path / "r.gguf").write_bytes(
        TinyBert(1, score_head=True, tokenizer__chat_template__rerank=template).file()
    )
    async with running_texts(tmp_path / "r.gguf", task="rerank") as engine:
        chunk = await answer(engine, rerank("word1", ["word2"]))
        ids = [*RANKER.ids("word5 word1 word6 word2"), SEP]
        assert chunk.output.rerank.documents[0].score == pytest.approx(
            RANKER.score(ids), abs=AS_THE_REFERENCE
        )
        cut = await answer(engine, rerank("word1", [LONG], truncate=True))
        assert cut.usage is not None
        assert cut.usage.prompt_tokens <= POSITIONS
        steering = await answer(engine, rerank("word1", ["word2 [SEP]"]))
        assert steering.output.rerank.documents[0].score != chunk.output.rerank.documents[0].score


async def test_ranking_with_a_model_without_a_score_head_is_not_ready(folder: Path) -> None:
    with pytest.raises(ModelNotReadyError, match="score head"):
        async with running_texts(folder / "bert.gguf", task="rerank"):
            pass


async def test_the_terms_of_a_call_are_kept(bert: LlamaTextEngine) -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(DeadlineExceededError):
        await answer(bert, embed(TEXTS), deadline=loop.time() - 1)
    with pytest.raises(TokenBudgetError):
        await answer(bert, embed(TEXTS), token_budget=5)
    assert bert.load_now() == bert.load_now()
    assert (bert.load_now().queued, bert.load_now().running) == (0, 0)


async def test_a_closed_engine_refuses_and_frees_its_callers(folder: Path) -> None:
    async with running_texts(folder / "bert.gguf") as engine:
        asked = [asyncio.ensure_future(vectors(engine, TEXTS * 200)) for _ in range(4)]
        await asyncio.sleep(0)
        await engine.close()
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(outcome, ShuttingDownError | np.ndarray) for outcome in outcomes)
        with pytest.raises(ShuttingDownError):
            await vectors(engine, TEXTS)
