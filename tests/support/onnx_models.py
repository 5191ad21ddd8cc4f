"""Small ONNX models, made when a test needs them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import tokenizers
from onnx import helper, numpy_helper

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "happy", "sad", "dog", "cat", "runs", "sleeps", "very")
WIDTH = 8


def value(name: str, kind: int, shape: Sequence[int | str] | None) -> onnx.ValueInfoProto:
    """An input or output of a graph; None = of unknown rank."""
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Mapping[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    """A model of one graph, in the standard operators."""
    initializers = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def write(model: onnx.ModelProto, folder: Path, description: Mapping[str, object] | None = None) -> Path:
    """Write model.onnx, and model.json if there is a description; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    if description is not None:
        (folder / "model.json").write_text(json.dumps(description))
    return folder


def identity_model(kind: int, shape: Sequence[int | str] | None = ("batch", 2)) -> onnx.ModelProto:
    """Y = x."""
    return model_of(
        [helper.make_node("Identity", ["x"], ["y"])], [value("x", kind, shape)], [value("y", kind, shape)]
    )


def lookup_model(layers: int = 24, width: int = 256) -> onnx.ModelProto:
    """`vector` (batch, width) = row `index` (batch,) of a table of 4; fails on an index of 4 or more.

    It multiplies by the identity `layers` times, so that many rows take long.
    """
    names = ["gathered", *(f"h{layer}" for layer in range(1, layers)), "vector"]
    nodes = [helper.make_node("Gather", ["table", "index"], ["gathered"])]
    nodes += [
        helper.make_node("MatMul", [source, "identity"], [target])
        for source, target in itertools.pairwise(names)
    ]
    table = np.arange(4, dtype=np.float32)[:, None] * np.ones((1, width), np.float32)
    return model_of(
        nodes,
        [value("index", onnx.TensorProto.INT64, ["batch"])],
        [value("vector", onnx.TensorProto.FLOAT, ["batch", width])],
        {"table": table, "identity": np.eye(width, dtype=np.float32)},
    )


def two_input_model() -> onnx.ModelProto:
    """`sum` = a + b and `product` = a * b, each (batch, 3) of FP32."""
    batch: list[int | str] = ["batch", 3]
    return model_of(
        [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Mul", ["a", "b"], ["product"])],
        [value(name, onnx.TensorProto.FLOAT, batch) for name in ("a", "b")],
        [value(name, onnx.TensorProto.FLOAT, batch) for name in ("sum", "product")],
    )


def token_vectors_model() -> onnx.ModelProto:
    """`last_hidden_state` (batch, tokens, 8): a vector for each id, whatever stands beside it."""
    table = np.random.default_rng(seed=3).standard_normal((len(WORDS), WIDTH)).astype(np.float32)
    return model_of(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        _text_inputs(),
        [value("last_hidden_state", onnx.TensorProto.FLOAT, ["batch", "tokens", WIDTH])],
        {"table": table},
    )


def logits_model(scores: Mapping[str, Sequence[float]]) -> onnx.ModelProto:
    """`logits` (batch, labels): the sum of the scores of each text's words; 0 for other words."""
    width = len(next(iter(scores.values())))
    table = np.array([scores.get(word, [0.0] * width) for word in WORDS], dtype=np.float32)
    return model_of(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["by_token"]),
            helper.make_node("ReduceSum", ["by_token", "axis"], ["logits"], keepdims=0),
        ],
        _text_inputs(),
        [value("logits", onnx.TensorProto.FLOAT, ["batch", width])],
        {"table": table, "axis": np.array([1], dtype=np.int64)},
    )


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of whole words with [CLS] and [SEP], which prescribes padding and truncation."""
    vocabulary = {word: place for place, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=16, pad_id=0, pad_token="[PAD]")
    tokenizer.enable_truncation(16)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))


def _text_inputs() -> list[onnx.ValueInfoProto]:
    return [
        value(name, onnx.TensorProto.INT64, ["batch", "tokens"]) for name in ("input_ids", "attention_mask")
    ]
