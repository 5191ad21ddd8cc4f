"""The iris model that ships is the one its script makes, and it knows irises."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from models.iris.make import DEFAULT_OUTPUT, SPECIES, make, read_data


def test_the_data_set_is_fishers() -> None:
    features, labels = read_data()
    assert features.shape == (150, 4)
    assert np.bincount(labels).tolist() == [50, 50, 50]
    assert features.mean(axis=0).round(4).tolist() == [5.8433, 3.0573, 3.758, 1.1993]


def test_making_it_again_gives_the_file_that_ships(tmp_path: Path) -> None:
    make(tmp_path)
    made = onnx.load(tmp_path / "model.onnx").graph
    shipped = onnx.load(DEFAULT_OUTPUT / "model.onnx").graph
    assert made.node == shipped.node
    assert (list(made.input), list(made.output)) == (list(shipped.input), list(shipped.output))
    for ours, theirs in zip(made.initializer, shipped.initializer, strict=True):
        np.testing.assert_allclose(numpy_helper.to_array(ours), numpy_helper.to_array(theirs), atol=1e-5)


def test_making_it_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    make(tmp_path / "first")
    make(tmp_path / "second")
    for name in ("model.onnx", "model.json", "CARD.md"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_it_names_at_least_95_of_100_irises() -> None:
    features, labels = read_data()
    session = onnxruntime.InferenceSession(str(DEFAULT_OUTPUT / "model.onnx"))
    found, probabilities = session.run(["label", "probabilities"], {"features": features.astype(np.float32)})
    assert (found == labels).mean() >= 0.95
    assert found.dtype == np.int64
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)


def test_the_manifest_belongs_to_the_file() -> None:
    manifest = json.loads((DEFAULT_OUTPUT / "model.json").read_text())
    assert (manifest["task"], manifest["runtime"]) == ("tensors", "onnx")
    assert manifest["labels"] == list(SPECIES)
    assert manifest["sha256"] == hashlib.sha256((DEFAULT_OUTPUT / "model.onnx").read_bytes()).hexdigest()
