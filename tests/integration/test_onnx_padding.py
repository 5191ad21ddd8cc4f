"""Padding removed inside a graph: the same answers, kept from start to start, never at a caller's cost."""

from __future__ import annotations

import asyncio
import concurrent.futures
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.support.onnx_engine import answer, arrays_of, embed_payload, running, tensors_payload, vectors_of
from tests.support.onnx_models import encoder_model, token_vectors_model, write, write_tokenizer
from workers.onnx.prepared_graph import GraphStore, PreparedGraph

TEXTS = ("a", "happy dog runs", "very very very sad cat sleeps", "a happy dog")


def _model(folder: Path, output: str = "mean") -> Path:
    write_tokenizer(folder)
    return write(encoder_model(output=output), folder)


def _session(prepared: PreparedGraph) -> ort.InferenceSession:
    source = prepared.source if isinstance(prepared.source, bytes) else str(prepared.source)
    return ort.InferenceSession(source)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.onnx"))


@pytest.mark.parametrize("output", ["mean", "tokens"])
async def test_texts_of_mixed_lengths_have_the_vectors_that_each_has_alone(
    tmp_path: Path, output: str
) -> None:
    folder = _model(tmp_path / "model", output)
    async with running(folder, removes_padding=False) as plain:
        alone = [vectors_of(await answer(plain, embed_payload(text)))[0] for text in TEXTS]
    cache = tmp_path / "cache"
    async with running(folder, cache=cache) as engine:
        together = vectors_of(await answer(engine, embed_payload(*TEXTS)))
    assert _files(cache)
    assert np.allclose(together, alone, atol=1e-5)


def test_products_with_weights_see_tokens_only(tmp_path: Path) -> None:
    prepared = GraphStore(tmp_path).prepared(_model(tmp_path / "model") / "model.onnx", "cpu")
    assert isinstance(prepared.source, Path)
    model = onnx.load(str(prepared.source))
    weights = {tensor.name for tensor in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    assert len(products) == 10
    assert all(node.name.startswith("unpadding/") for node in products)


@pytest.mark.parametrize("make", [lambda: encoder_model(output="sum"), token_vectors_model])
async def test_a_graph_that_would_answer_otherwise_or_gains_nothing_stays_as_it_is(
    tmp_path: Path, make: object
) -> None:
    assert callable(make)
    folder = write(make(), tmp_path / "model")
    graph = folder / "model.onnx"
    for _ in range(2):
        assert GraphStore(tmp_path / "cache").prepared(graph, "cpu") == PreparedGraph(graph, False)
    assert not _files(tmp_path / "cache")


def test_a_hidden_place_never_shows_what_another_text_holds(tmp_path: Path) -> None:
    prepared = GraphStore(tmp_path / "cache").prepared(_model(tmp_path / "m", "tokens") / "model.onnx", "cpu")
    session = _session(prepared)
    mask = np.array([[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1]], dtype=np.int64)
    first, second = (
        session.run(None, {"input_ids": np.array([[word] * 4, [4] * 4, [5] * 4]), "attention_mask": mask})[0]
        for word in (6, 7)
    )
    assert not np.allclose(first[0], second[0])
    assert np.array_equal(first[1:], second[1:])


async def test_tensors_of_a_rewritten_model_are_what_they_were(tmp_path: Path) -> None:
    folder = _model(tmp_path / "model")
    ids = np.array([[4, 5, 6], [7, 8, 0]], dtype=np.int64)
    payload = tensors_payload(input_ids=ids, attention_mask=(ids > 0).astype(np.int64))
    async with running(folder) as engine, running(folder, removes_padding=False) as plain:
        found, wanted = arrays_of(await answer(engine, payload)), arrays_of(await answer(plain, payload))
    assert np.allclose(found["embedding"], wanted["embedding"], atol=1e-5)


def test_a_kept_graph_is_used_again_until_the_model_changes(tmp_path: Path) -> None:
    folder, cache = _model(tmp_path / "model"), tmp_path / "cache"
    made = GraphStore(cache).prepared(folder / "model.onnx", "cpu")
    stamp = _files(cache)[0].stat()
    assert GraphStore(cache).prepared(folder / "model.onnx", "cpu") == made
    assert _files(cache)[0].stat() == stamp
    write(encoder_model(layers=3), folder)
    assert GraphStore(cache).prepared(folder / "model.onnx", "cpu") != made
    assert len(_files(cache)) == 2


@pytest.mark.parametrize("damage", [b"", b"no graph", None])
def test_a_damaged_kept_graph_is_made_again(tmp_path: Path, damage: bytes | None) -> None:
    graph, cache = _model(tmp_path / "model") / "model.onnx", tmp_path / "cache"
    GraphStore(cache).prepared(graph, "cpu")
    (kept,) = _files(cache)
    whole = kept.read_bytes()
    if damage is None:
        kept.unlink()
    else:
        kept.write_bytes(damage)
    assert GraphStore(cache).prepared(graph, "cpu") == PreparedGraph(kept, True)
    assert kept.read_bytes() == whole


async def test_a_folder_that_cannot_be_written_costs_time_and_nothing_else(tmp_path: Path) -> None:
    folder, cache = _model(tmp_path / "model"), tmp_path / "file"
    cache.write_text("where the folder should be")
    prepared = GraphStore(cache).prepared(folder / "model.onnx", "cpu")
    assert isinstance(prepared.source, bytes)
    async with running(folder, cache=cache) as engine:
        assert vectors_of(await answer(engine, embed_payload(*TEXTS))).shape == (4, 8)


def test_workers_that_start_at_once_all_find_a_whole_graph(tmp_path: Path) -> None:
    graph, cache = _model(tmp_path / "model") / "model.onnx", tmp_path / "cache"
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: GraphStore(cache).prepared(graph, "cpu"), range(8)))
    assert all(_session(one).get_outputs()[0].name == "embedding" for one in found)
    assert len(_files(cache)) == 1
    assert not list(cache.glob(".*"))


async def test_external_data_is_left_to_onnxruntime(tmp_path: Path) -> None:
    folder = _model(tmp_path / "model")
    model = onnx.load(str(folder / "model.onnx"))
    onnx.save(
        model, str(folder / "model.onnx"), save_as_external_data=True, location="weights", size_threshold=128
    )
    graph = folder / "model.onnx"
    assert GraphStore(tmp_path / "cache").prepared(graph, "cpu") == PreparedGraph(graph, False)
    async with running(folder) as engine:
        assert vectors_of(await answer(engine, embed_payload("a dog"))).shape == (1, 8)


async def test_batches_of_one_model_under_load_stay_right(tmp_path: Path) -> None:
    folder = _model(tmp_path / "model")
    async with running(folder, removes_padding=False) as plain:
        alone = [vectors_of(await answer(plain, embed_payload(text)))[0] for text in TEXTS]
    async with running(folder) as engine:
        found = await asyncio.gather(*(answer(engine, embed_payload(text)) for text in TEXTS * 20))
    for place, chunk in enumerate(found):
        assert np.allclose(vectors_of(chunk)[0], alone[place % len(TEXTS)], atol=1e-5)


async def test_a_model_of_tensors_is_never_rewritten(tmp_path: Path) -> None:
    folder = _model(tmp_path / "model")
    write(encoder_model(), folder, {"task": "tensors"})
    async with running(folder, cache=tmp_path / "cache"):
        assert not (tmp_path / "cache").exists()
