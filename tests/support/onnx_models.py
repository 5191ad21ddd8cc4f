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
KIND_OF_DATATYPE: Mapping[str, int] = {
    "BOOL": onnx.TensorProto.BOOL,
    "INT8": onnx.TensorProto.INT8,
    "INT16": onnx.TensorProto.INT16,
    "INT32": onnx.TensorProto.INT32,
    "INT64": onnx.TensorProto.INT64,
    "UINT8": onnx.TensorProto.UINT8,
    "UINT16": onnx.TensorProto.UINT16,
    "UINT32": onnx.TensorProto.UINT32,
    "UINT64": onnx.TensorProto.UINT64,
    "FP16": onnx.TensorProto.FLOAT16,
    "FP32": onnx.TensorProto.FLOAT,
    "FP64": onnx.TensorProto.DOUBLE,
    "BYTES": onnx.TensorProto.STRING,
}


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


def every_type_model() -> onnx.ModelProto:
    """For each datatype an input (batch, 2) of its name in lower case, and the same as `NAME_back`."""
    kinds = {name.lower(): kind for name, kind in KIND_OF_DATATYPE.items()}
    return model_of(
        [helper.make_node("Identity", [name], [f"{name}_back"]) for name in kinds],
        [value(name, kind, ["batch", 2]) for name, kind in kinds.items()],
        [value(f"{name}_back", kind, ["batch", 2]) for name, kind in kinds.items()],
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


def encoder_model(layers: int = 2, *, output: str = "mean") -> onnx.ModelProto:
    """A small transformer of random weights, as exporters write them: attention sees no padding.

    output: "mean" = pooled in the graph, (batch, 8); "tokens" = (batch, tokens, 8); "sum" = of all
    places, hidden ones too, which no graph should do; "logit" = (batch, 1) of the first token.
    """
    random = np.random.default_rng(seed=5)
    weights: dict[str, np.ndarray] = {
        "words": random.standard_normal((len(WORDS), WIDTH)).astype(np.float32),
        "positions": random.standard_normal((32, WIDTH)).astype(np.float32),
        "one": np.array([1], np.float32),
        "masked": np.array([-1e9], np.float32),
        "axis_1": np.array([1], np.int64),
        "axis_2": np.array([2], np.int64),
        "zero": np.array(0, np.int64),
        "heads": np.array([0, 0, 2, WIDTH // 2], np.int64),
        "joined": np.array([0, 0, WIDTH], np.int64),
        "scale": np.ones(WIDTH, np.float32),
        "shift": np.zeros(WIDTH, np.float32),
        "head": random.standard_normal((WIDTH, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["by_word"]),
        helper.make_node("Shape", ["input_ids"], ["length"], start=1, end=2),
        helper.make_node("Slice", ["positions", "slice_from", "length", "slice_from"], ["used"]),
        helper.make_node("Add", ["by_word", "used"], ["h0"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "mask"], ["hidden_places"]),
        helper.make_node("Mul", ["hidden_places", "masked"], ["flat_bias"]),
        helper.make_node("Unsqueeze", ["flat_bias", "axes_1_2"], ["bias"]),
    ]
    weights |= {"slice_from": np.array([0], np.int64), "axes_1_2": np.array([1, 2], np.int64)}
    for layer in range(layers):
        nodes += _encoder_layer(f"l{layer}", f"h{layer}", f"h{layer + 1}", weights, random)
    nodes += _encoder_head(f"h{layers}", output)
    shapes: dict[str, list[int | str]] = {"tokens": ["batch", "tokens", WIDTH], "logit": ["batch", 1]}
    name = "logits" if output == "logit" else "last_hidden_state" if output == "tokens" else "embedding"
    outputs = [value(name, onnx.TensorProto.FLOAT, shapes.get(output, ["batch", WIDTH]))]
    return model_of(nodes, _text_inputs(), outputs, weights)


def _encoder_layer(
    name: str, source: str, target: str, weights: dict[str, np.ndarray], random: np.random.Generator
) -> list[onnx.NodeProto]:
    nodes = []
    for part in ("q", "k", "v", "o", "f"):
        weights[f"{name}{part}w"] = random.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 3
        weights[f"{name}{part}b"] = random.standard_normal(WIDTH).astype(np.float32)
    for part in ("q", "k", "v"):
        nodes += _dense(f"{name}{part}", source)
        nodes.append(helper.make_node("Reshape", [f"{name}{part}", "heads"], [f"{name}{part}r"]))
        perm = [0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]
        nodes.append(helper.make_node("Transpose", [f"{name}{part}r"], [f"{name}{part}t"], perm=perm))
    return [
        *nodes,
        helper.make_node("MatMul", [f"{name}qt", f"{name}kt"], [f"{name}s"]),
        helper.make_node("Add", [f"{name}s", "bias"], [f"{name}sb"]),
        helper.make_node("Softmax", [f"{name}sb"], [f"{name}p"], axis=-1),
        helper.make_node("MatMul", [f"{name}p", f"{name}vt"], [f"{name}m"]),
        helper.make_node("Transpose", [f"{name}m"], [f"{name}mt"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", [f"{name}mt", "joined"], [f"{name}j"]),
        *_dense(f"{name}o", f"{name}j"),
        helper.make_node("Add", [source, f"{name}o"], [f"{name}r"]),
        helper.make_node("LayerNormalization", [f"{name}r", "scale", "shift"], [f"{name}n"], axis=-1),
        *_dense(f"{name}f", f"{name}n"),
        helper.make_node("Relu", [f"{name}f"], [target]),
    ]


def _dense(name: str, source: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("MatMul", [source, f"{name}w"], [f"{name}x"]),
        helper.make_node("Add", [f"{name}x", f"{name}b"], [name]),
    ]


def _encoder_head(source: str, output: str) -> list[onnx.NodeProto]:
    if output == "tokens":
        return [helper.make_node("Identity", [source], ["last_hidden_state"])]
    if output == "logit":
        return [
            helper.make_node("Gather", [source, "zero"], ["first"], axis=1),
            helper.make_node("MatMul", ["first", "head"], ["logits"]),
        ]
    if output == "sum":
        return [helper.make_node("ReduceSum", [source, "axis_1"], ["embedding"], keepdims=0)]
    return [
        helper.make_node("Unsqueeze", ["mask", "axis_2"], ["wide_mask"]),
        helper.make_node("Mul", [source, "wide_mask"], ["shown"]),
        helper.make_node("ReduceSum", ["shown", "axis_1"], ["summed"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "axis_1"], ["count"], keepdims=1),
        helper.make_node("Div", ["summed", "count"], ["embedding"]),
    ]


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
