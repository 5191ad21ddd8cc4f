"""The ONNX engine with text models: embeddings, labels and rankings."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference_mesh import metadata
from inference_mesh.errors import (
    InputTooLongError,
    InvalidInputError,
    ModelNotReadyError,
    TokenBudgetError,
)
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2
from tests.support.onnx_engine import (
    Counts,
    answer,
    arrays_of,
    embed_payload,
    running,
    tensors_payload,
    vectors_of,
)
from tests.support.onnx_models import (
    encoder_model,
    logits_model,
    token_vectors_model,
    write,
    write_tokenizer,
)
from tests.support.processes import MINILM
from tests.support.workers import served_worker
from workers.onnx.engine import OnnxEngine
from workers.onnx.settings import OnnxSettings

needs_minilm = pytest.mark.skipif(
    not (MINILM / "model.onnx").is_file(), reason="MiniLM has not been made here"
)


@pytest.fixture
def text_model(tmp_path: Path) -> Path:
    """A model of token vectors, with its tokenizer."""
    write_tokenizer(tmp_path / "text")
    return write(token_vectors_model(), tmp_path / "text")


async def test_a_text_model_is_recognised_by_its_files(text_model: Path) -> None:
    async with running(text_model) as engine:
        chunk = await answer(engine, embed_payload("happy dog", "cat"))
        assert engine.model.task == payload_pb2.TASK_EMBED
        assert (engine.model.dimensions, engine.model.max_tokens) == (8, 16)
    assert vectors_of(chunk).shape == (2, 8)
    assert np.allclose(np.linalg.norm(vectors_of(chunk), axis=1), 1, atol=1e-6)
    assert chunk.usage == payload_pb2.Usage(prompt_tokens=4 + 3)


async def test_texts_over_the_token_budget_are_refused_before_they_are_computed(text_model: Path) -> None:
    observer = Counts()
    async with running(text_model, observer) as engine:
        for budget in (6, 0):
            with pytest.raises(TokenBudgetError):
                await answer(engine, embed_payload("happy dog", "cat"), token_budget=budget)
        assert observer.batches == []
        assert engine.load_now().queued == 0
        chunk = await answer(engine, embed_payload("happy dog", "cat"), token_budget=7)
    assert chunk.prompt_tokens == 7


async def test_tensors_cost_no_tokens(text_model: Path) -> None:
    ids = np.array([[2, 9, 3]], dtype=np.int64)
    payload = tensors_payload(input_ids=ids, attention_mask=np.ones_like(ids))
    async with running(text_model) as engine:
        assert (await answer(engine, payload, token_budget=0)).prompt_tokens == 0


async def test_padding_does_not_change_a_mean(text_model: Path) -> None:
    texts = ["cat", "happy dog", "very happy dog runs a cat", "a a a a a a a a"]
    async with running(text_model) as engine:
        alone = [vectors_of(await answer(engine, embed_payload(text)))[0] for text in texts]
        together = vectors_of(await answer(engine, embed_payload(*texts)))
    assert np.abs(np.stack(alone) - together).max() < 1e-6


async def test_cls_pooling_and_no_normalisation_are_taken_from_model_json(text_model: Path) -> None:
    (text_model / "model.json").write_text(json.dumps({"pooling": "cls", "normalise": False}))
    async with running(text_model) as engine:
        vectors = vectors_of(await answer(engine, embed_payload("cat", "dog runs")))
    assert np.array_equal(vectors[0], vectors[1])
    assert not np.isclose(np.linalg.norm(vectors[0]), 1)


async def test_fewer_dimensions_are_the_first_ones_normalised_again(text_model: Path) -> None:
    async with running(text_model) as engine:
        whole = vectors_of(await answer(engine, embed_payload("happy dog")))
        short = vectors_of(await answer(engine, embed_payload("happy dog", dimensions=3)))
        with pytest.raises(InvalidInputError):
            await answer(engine, embed_payload("happy dog", dimensions=9))
    assert np.allclose(short[0], whole[0, :3] / np.linalg.norm(whole[0, :3]), atol=1e-6)


async def test_a_text_that_is_too_long_is_refused_by_place_and_numbers_or_cut(text_model: Path) -> None:
    texts = ["cat", " ".join(["dog"] * 30)]
    async with running(text_model) as engine:
        with pytest.raises(InputTooLongError) as refusal:
            await answer(engine, embed_payload(*texts))
        cut = await answer(engine, embed_payload(*texts, truncate=True))
        with pytest.raises(InputTooLongError):
            await answer(engine, embed_payload("dog " * 100_000))
    assert all(part in refusal.value.message for part in ("texts[1]", "32", "16"))
    assert cut.prompt_tokens == 3 + 16


@pytest.mark.parametrize("texts", [[], ["cat", ""], ["cat"] * 2049])
async def test_no_texts_too_many_texts_and_empty_texts_are_refused(
    text_model: Path, texts: list[str]
) -> None:
    async with running(text_model) as engine:
        with pytest.raises(InvalidInputError):
            await answer(engine, embed_payload(*texts))


async def test_many_texts_are_computed_in_batches_and_joined_again(text_model: Path) -> None:
    observer = Counts()
    texts = [" ".join(["dog", "cat", "happy"][: 1 + place % 3] * (1 + place % 4)) for place in range(300)]
    async with running(text_model, observer) as engine:
        together = vectors_of(await answer(engine, embed_payload(*texts)))
        for place in (0, 7, 123, 299):
            alone = vectors_of(await answer(engine, embed_payload(texts[place])))
            assert np.abs(alone[0] - together[place]).max() < 1e-6
    assert sum(observer.batches) == 304
    assert max(observer.batches) <= 32


async def test_a_text_model_takes_tensors_too(text_model: Path) -> None:
    async with running(text_model) as engine:
        ids = np.array([[2, 5, 3]], np.int64)
        arrays = arrays_of(
            await answer(engine, tensors_payload(input_ids=ids, attention_mask=np.ones_like(ids)))
        )
    assert arrays["last_hidden_state"].shape == (1, 3, 8)


async def test_labels_are_answered_best_first(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    model = logits_model({"happy": [2.0, 0.0], "sad": [0.0, 3.0]})
    write(model, tmp_path, {"task": "classify", "labels": ["positive", "negative"]})
    async with running(tmp_path) as engine:
        classify = payload_pb2.Classify(texts=["a happy dog", "a sad cat"], top_k=1)
        chunk = await answer(engine, payload_pb2.Payload(classify=classify))
    labels = [result.labels for result in chunk.output.classify.results]
    assert [[label.label for label in one] for one in labels] == [["positive"], ["negative"]]
    assert labels[1][0].score == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-6)


async def test_documents_are_ranked_by_their_score(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    write(logits_model({"dog": [1.0], "cat": [-1.0]}), tmp_path, {"task": "rerank"})
    async with running(tmp_path) as engine:
        rerank = payload_pb2.Rerank(query="a dog", documents=["cat", "dog dog", "a", "dog"], top_n=3)
        chunk = await answer(engine, payload_pb2.Payload(rerank=rerank))
        with pytest.raises(InvalidInputError):
            await answer(engine, payload_pb2.Payload(rerank=payload_pb2.Rerank(documents=["dog"])))
    ranked = [(document.index, document.score) for document in chunk.output.rerank.documents]
    assert ranked == [(1, 3.0), (3, 2.0), (2, 1.0)]


async def test_a_wrong_tokenizer_is_refused(text_model: Path) -> None:
    (text_model / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(ModelNotReadyError):
        await OnnxEngine(OnnxSettings(text_model, "model"), Counts()).load()


@needs_minilm
async def test_minilm_finds_the_known_similarities() -> None:
    texts = [
        "That is a happy person",
        "That is a happy dog",
        "That is a very happy person",
        "Today is a sunny day",
    ]
    async with running(MINILM) as engine:
        vectors = vectors_of(await answer(engine, embed_payload(*texts)))
        assert engine.model.dimensions == 384
    assert vectors[0] @ vectors[1:].T == pytest.approx([0.6946, 0.9429, 0.2569], abs=2e-4)


@needs_minilm
async def test_minilm_gives_the_same_vector_alone_and_among_others() -> None:
    texts = [" ".join(["the quick brown fox jumps over a lazy dog"] * repeats) for repeats in (1, 2, 3, 5)]
    async with running(MINILM) as engine:
        alone = [vectors_of(await answer(engine, embed_payload(text)))[0] for text in texts]
        chunks = await asyncio.gather(*[answer(engine, embed_payload(text)) for text in texts * 6])
        joined = vectors_of(await answer(engine, embed_payload(*texts)))
    together = np.stack([vectors_of(chunk)[0] for chunk in chunks])
    assert np.abs(together - np.stack(alone * 6)).max() < 1e-5
    assert np.abs(joined - np.stack(alone)).max() < 1e-5


PROMPTS = {"query": "very ", "document": "a "}


@pytest.mark.parametrize("file", ["model.json", "config_sentence_transformers.json"])
async def test_an_instruction_stands_before_each_text(text_model: Path, file: str) -> None:
    (text_model / file).write_text(json.dumps({"prompts": PROMPTS, "default_prompt_name": "document"}))
    async with running(text_model) as engine:
        query = await answer(engine, embed_payload("happy dog", "cat", prompt_name="query"))
        default = await answer(engine, embed_payload("happy dog", "cat"))
    async with running(write_plain_copy(text_model)) as plain:
        wanted = await answer(plain, embed_payload("very happy dog", "very cat"))
        other = await answer(plain, embed_payload("a happy dog", "a cat"))
    assert np.array_equal(vectors_of(query), vectors_of(wanted))
    assert np.array_equal(vectors_of(default), vectors_of(other))
    assert query.usage == wanted.usage


def write_plain_copy(text_model: Path) -> Path:
    """The same model without instructions."""
    folder = text_model.with_name("plain")
    write_tokenizer(folder)
    return write(token_vectors_model(), folder)


async def test_an_unknown_instruction_is_refused_with_the_known_ones(text_model: Path) -> None:
    (text_model / "model.json").write_text(json.dumps({"prompts": PROMPTS}))
    async with running(text_model) as engine:
        with pytest.raises(InvalidInputError, match="document, query"):
            await answer(engine, embed_payload("cat", prompt_name="passage"))


async def test_token_ids_are_taken_as_they_stand(text_model: Path) -> None:
    ids = [payload_pb2.Tokens(ids=[2, 5, 7, 3]), payload_pb2.Tokens(ids=[8])]
    async with running(text_model) as engine:
        chunk = await answer(engine, embed_payload(tokens=ids))
        texts = await answer(engine, embed_payload("happy dog"))
        cut = await answer(engine, embed_payload(tokens=[payload_pb2.Tokens(ids=[5] * 40)], truncate=True))
    assert np.allclose(vectors_of(chunk)[0], vectors_of(texts)[0])
    assert chunk.usage == payload_pb2.Usage(prompt_tokens=5)
    assert cut.usage == payload_pb2.Usage(prompt_tokens=16)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"tokens": [payload_pb2.Tokens()]}, InvalidInputError),
        ({"tokens": [payload_pb2.Tokens(ids=[12])]}, InvalidInputError),
        ({"tokens": [payload_pb2.Tokens(ids=[2**32 - 1])]}, InvalidInputError),
        ({"tokens": [payload_pb2.Tokens(ids=[5] * 17)]}, InputTooLongError),
        ({"tokens": [payload_pb2.Tokens(ids=[5])], "texts": ["cat"]}, InvalidInputError),
        ({"tokens": [payload_pb2.Tokens(ids=[5])], "prompt_name": "query"}, InvalidInputError),
    ],
)
async def test_token_ids_that_do_not_fit_are_refused(
    text_model: Path, fields: dict[str, object], error: type[Exception]
) -> None:
    async with running(text_model) as engine:
        with pytest.raises(error):
            await answer(engine, payload_pb2.Payload(embed=payload_pb2.Embed(**fields)))  # type: ignore[arg-type]


async def test_over_long_documents_are_refused_or_cut_and_the_query_is_kept(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    write(logits_model({"dog": [1.0], "cat": [-1.0]}), tmp_path, {"task": "rerank"})
    long = payload_pb2.Rerank(query="dog", documents=["cat", "cat " * 40])
    async with running(tmp_path) as engine:
        with pytest.raises(InputTooLongError, match=r"documents\[1\]"):
            await answer(engine, payload_pb2.Payload(rerank=long))
        long.truncate = True
        chunk = await answer(engine, payload_pb2.Payload(rerank=long))
        hopeless = payload_pb2.Rerank(query="dog " * 20, documents=["cat"], truncate=True)
        with pytest.raises(InputTooLongError):
            await answer(engine, payload_pb2.Payload(rerank=hopeless))
    # Of 16 tokens three are special and one is the query's: twelve cats are left.
    scores = {one.index: one.score for one in chunk.output.rerank.documents}
    assert scores == {0: 0.0, 1: 1.0 - 12}
    assert chunk.usage == payload_pb2.Usage(prompt_tokens=5 + 16)


async def test_over_long_texts_to_classify_are_refused_or_cut(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    write(logits_model({"dog": [1.0, 0.0]}), tmp_path, {"task": "classify", "labels": ["yes", "no"]})
    long = payload_pb2.Classify(texts=["dog " * 40])
    async with running(tmp_path) as engine:
        with pytest.raises(InputTooLongError):
            await answer(engine, payload_pb2.Payload(classify=long))
        long.truncate = True
        chunk = await answer(engine, payload_pb2.Payload(classify=long))
    assert chunk.output.classify.results[0].labels[0].label == "yes"
    assert chunk.usage == payload_pb2.Usage(prompt_tokens=16)


async def test_a_transformer_ranks_pairs_together_as_it_does_alone(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    write(encoder_model(output="logit"), tmp_path, {"task": "rerank"})
    documents = ["cat", "happy dog runs very very", "a", "sad cat"]

    def ranked(*some: str) -> payload_pb2.Payload:
        return payload_pb2.Payload(rerank=payload_pb2.Rerank(query="dog", documents=some))

    async with running(tmp_path) as engine:
        together = await answer(engine, ranked(*documents))
        alone = [await answer(engine, ranked(one)) for one in documents]
    wanted = [chunk.output.rerank.documents[0].score for chunk in alone]
    found = {one.index: one.score for one in together.output.rerank.documents}
    assert [found[index] for index in range(4)] == pytest.approx(wanted, abs=1e-5)
    assert len(set(found.values())) == 4


async def test_an_answer_that_comes_whole_tells_its_prompt_by_its_usage_alone(text_model: Path) -> None:
    async with (
        running(text_model) as engine,
        served_worker(engine) as worker,
    ):
        stub: Any = inference_pb2_grpc.InferenceServiceStub(worker.channel)
        call = stub.Infer(inference_pb2.InferRequest(model="model", payload=embed_payload("happy dog")))
        await call
        told = metadata.value_of(tuple(await call.initial_metadata()), metadata.PROMPT_TOKENS)
        used = metadata.bytes_of(tuple(await call.trailing_metadata()), metadata.USAGE)
    assert told is None
    assert payload_pb2.Usage.FromString(used or b"") == payload_pb2.Usage(prompt_tokens=4)
