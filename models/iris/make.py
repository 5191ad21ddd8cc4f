"""Makes the iris classifier: reads iris.csv, fits, writes the ONNX file, its manifest and its card.

Owns the data set's reader, the fit (softmax regression in float64, deterministic) and the graph.
Run as `python -m models.iris`.
"""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SPECIES = ("setosa", "versicolor", "virginica")
DATA_FILE = Path(__file__).with_name("iris.csv")
DEFAULT_OUTPUT = Path(__file__).resolve().parent.parent / "files" / "iris"
OPSET = 17
IR_VERSION = 8

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]


class Weights(NamedTuple):
    """A linear map to one logit per species: float64 (4, 3) and (3,)."""

    kernel: Matrix
    bias: Matrix


def read_data(path: Path = DATA_FILE) -> tuple[Matrix, Labels]:
    """The 150 flowers: lengths in cm, float64 (150, 4), and species 0-2, int64 (150,)."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    features = np.array([[float(cell) for cell in row[:4]] for row in rows])
    labels = np.array([SPECIES.index(row[4]) for row in rows], dtype=np.int64)
    return features, labels


def fit(features: Matrix, labels: Labels, *, steps: int = 3000, penalty: float = 0.003) -> Weights:
    """Softmax regression by gradient descent on standardised features, then unstandardised.

    The loss is convex and the start is zero, so the result does not hang on a seed.
    """
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    scaled = (features - mean) / deviation
    wanted = np.eye(len(SPECIES))[labels]
    kernel, bias = np.zeros((features.shape[1], len(SPECIES))), np.zeros(len(SPECIES))
    for _ in range(steps):
        error = (probabilities(scaled, Weights(kernel, bias)) - wanted) / len(labels)
        kernel = kernel - (scaled.T @ error + penalty * kernel)
        bias = bias - error.sum(axis=0)
    unscaled = kernel / deviation[:, None]
    return Weights(unscaled, bias - mean @ unscaled)


def probabilities(features: Matrix, weights: Weights) -> Matrix:
    """One probability per species and row: float64 (batch, 3), rows sum to 1."""
    logits = features @ weights.kernel + weights.bias
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponent / exponent.sum(axis=1, keepdims=True))


def accuracy(features: Matrix, labels: Labels, weights: Weights) -> float:
    """The fraction of rows whose most probable species is the right one."""
    return float((probabilities(features, weights).argmax(axis=1) == labels).mean())


def cross_validated_accuracy(features: Matrix, labels: Labels, folds: int = 5) -> float:
    """Accuracy on rows the fit has not seen; fold k holds the rows k, k+folds, k+2*folds, ..."""
    fold_of_row = np.arange(len(labels)) % folds
    scores = []
    for fold in range(folds):
        held_out = fold_of_row == fold
        weights = fit(features[~held_out], labels[~held_out])
        scores.append(accuracy(features[held_out], labels[held_out], weights))
    return float(np.mean(scores))


def build_graph(weights: Weights) -> onnx.ModelProto:
    """`features` float32 (batch, 4) to `label` int64 (batch,) and `probabilities` float32 (batch, 3)."""
    nodes = [
        helper.make_node("Gemm", ["features", "kernel", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "iris",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 4])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3]),
        ],
        [
            numpy_helper.from_array(weights.kernel.astype(np.float32), "kernel"),
            numpy_helper.from_array(weights.bias.astype(np.float32), "bias"),
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="inference-mesh"
    )
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    return model


def manifest(model_bytes: bytes) -> dict[str, object]:
    """What the worker reads beside the model."""
    return {
        "task": "tensors",
        "runtime": "onnx",
        "labels": list(SPECIES),
        "licence": "Apache-2.0",
        "source": "Fisher 1936, The use of multiple measurements in taxonomic problems (public domain)",
        "sha256": hashlib.sha256(model_bytes).hexdigest(),
    }


def card(seen: float, unseen: float) -> str:
    """The model card, with the measured figures."""
    return f"""# iris

Softmax regression: the species of an iris from four lengths in cm.

- Input `features`, float32 (batch, 4): sepal length, sepal width, petal length, petal width.
- Outputs `label`, int64 (batch,): 0 setosa, 1 versicolor, 2 virginica; `probabilities`, float32 (batch, 3).
- Data: Fisher 1936, 150 flowers, public domain (`models/iris/iris.csv`). The model: Apache-2.0.
- Accuracy on flowers the fit has not seen (5 folds): {unseen:.3f}. The shipped model is fitted on
  all 150; on these its accuracy is {seen:.3f}.
- For: showing and testing calls with tensors. Not for: botany; it knows three species and always names one.
- Make it again: `python -m models.iris` (under a second, no seed: the loss is convex).
"""


def make(output: Path = DEFAULT_OUTPUT) -> tuple[float, float]:
    """Writes model.onnx, model.json and CARD.md; the accuracy on seen and on unseen rows."""
    features, labels = read_data()
    weights = fit(features, labels)
    seen, unseen = accuracy(features, labels, weights), cross_validated_accuracy(features, labels)
    model_bytes = build_graph(weights).SerializeToString(deterministic=True)
    output.mkdir(parents=True, exist_ok=True)
    (output / "model.onnx").write_bytes(model_bytes)
    (output / "model.json").write_text(json.dumps(manifest(model_bytes), indent=2) + "\n", encoding="utf-8")
    (output / "CARD.md").write_text(card(seen, unseen), encoding="utf-8")
    return seen, unseen
