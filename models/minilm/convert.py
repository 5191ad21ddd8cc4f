"""Builds the ONNX graph of a BERT sentence-embedding model from its tensors, without torch.

Owns the graph: `input_ids` and `attention_mask` in, one unit vector per text out; standard operators
of opset 20 only. Does not own the weights (fetch.py) nor the proof that they agree (verify.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 9
EPSILON = 1e-12
MASKED = -1e9
"""Added to the score of padding: its weight after the softmax is exactly zero in float32."""

Tensors = Mapping[str, NDArray[Any]]


def convert(tensors: Tensors, *, heads: int) -> onnx.ModelProto:
    """The graph for these weights, checked.

    Inputs int64 (batch, tokens): `input_ids`, and `attention_mask` with 1 = token, 0 = padding.
    Output float32 (batch, width): `embedding`, the mean over the tokens, L2 norm 1.
    """
    builder = _Builder(tensors, heads)
    hidden = _embed(builder)
    score_bias = _score_bias(builder)
    layers = sum(name.endswith("attention.self.query.weight") for name in tensors)
    for layer in range(layers):
        hidden = _layer(builder, hidden, score_bias, f"encoder.layer.{layer}.")
    _pool(builder, hidden)
    model = helper.make_model(
        builder.graph(), opset_imports=[helper.make_opsetid("", OPSET)], producer_name="inference-mesh"
    )
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    return model


class _Builder:
    """Collects nodes and constants; every method gives the name of what it adds."""

    def __init__(self, tensors: Tensors, heads: int) -> None:
        self.tensors = tensors
        self.heads = heads
        self.width: int = tensors["embeddings.word_embeddings.weight"].shape[1]
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def node(self, operator: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def floats(self, name: str, values: NDArray[Any]) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float32), name)
        return name

    def integers(self, *values: int) -> str:
        name = "int_" + "_".join(str(value) for value in values)
        self.constants[name] = numpy_helper.from_array(np.array(values, dtype=np.int64), name)
        return name

    def linear(self, hidden: str, name: str, kernel: NDArray[Any], bias: NDArray[Any]) -> str:
        """kernel as (out, in), the way the weights are published."""
        product = self.node("MatMul", [hidden, self.floats(name + ".kernel", kernel.T)])
        return self.node("Add", [product, self.floats(name + ".bias", bias)])

    def dense(self, hidden: str, name: str) -> str:
        return self.linear(hidden, name, self.tensors[name + ".weight"], self.tensors[name + ".bias"])

    def layer_norm(self, hidden: str, name: str) -> str:
        scale = self.floats(name + ".scale", self.tensors[name + ".weight"])
        bias = self.floats(name + ".bias", self.tensors[name + ".bias"])
        return self.node("LayerNormalization", [hidden, scale, bias], axis=-1, epsilon=EPSILON)

    def graph(self) -> onnx.GraphProto:
        """The finished graph with its inputs and its output."""
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in ("input_ids", "attention_mask")
        ]
        output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", self.width])
        return helper.make_graph(
            self.nodes, "sentence_embedding", inputs, [output], list(self.constants.values())
        )


def _embed(builder: _Builder) -> str:
    """Word plus position; every text is of type 0, so that vector is added to the positions here."""
    tensors = builder.tensors
    words = builder.floats("words", tensors["embeddings.word_embeddings.weight"])
    position_values = tensors["embeddings.position_embeddings.weight"].astype(np.float64)
    type_zero = tensors["embeddings.token_type_embeddings.weight"][0].astype(np.float64)
    positions = builder.floats("positions", position_values + type_zero)
    length = builder.node("Shape", ["input_ids"], start=1, end=2)
    used = builder.node("Slice", [positions, builder.integers(0), length, builder.integers(0)])
    total = builder.node("Add", [builder.node("Gather", [words, "input_ids"]), used])
    return builder.layer_norm(total, "embeddings.LayerNorm")


def _score_bias(builder: _Builder) -> str:
    """0 for a token and MASKED for padding: float32 (batch, 1, 1, tokens)."""
    mask = builder.node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
    padding = builder.node("Sub", [builder.floats("one", np.ones(1)), mask])
    bias = builder.node("Mul", [padding, builder.floats("masked", np.array([MASKED]))])
    return builder.node("Unsqueeze", [bias, builder.integers(1, 2)])


def _layer(builder: _Builder, hidden: str, score_bias: str, prefix: str) -> str:
    attended = builder.dense(
        _attention(builder, hidden, score_bias, prefix), prefix + "attention.output.dense"
    )
    hidden = builder.layer_norm(
        builder.node("Add", [hidden, attended]), prefix + "attention.output.LayerNorm"
    )
    inner = builder.node("Gelu", [builder.dense(hidden, prefix + "intermediate.dense")], approximate="none")
    outer = builder.dense(inner, prefix + "output.dense")
    return builder.layer_norm(builder.node("Add", [hidden, outer]), prefix + "output.LayerNorm")


def _attention(builder: _Builder, hidden: str, score_bias: str, prefix: str) -> str:
    """Query, key and value in one product; the scale 1/sqrt(head width) is folded into the query."""
    head_width = builder.width // builder.heads
    names = [f"{prefix}attention.self.{part}" for part in ("query", "key", "value")]
    kernels = [builder.tensors[name + ".weight"].astype(np.float64) for name in names]
    biases = [builder.tensors[name + ".bias"].astype(np.float64) for name in names]
    kernels[0], biases[0] = kernels[0] / np.sqrt(head_width), biases[0] / np.sqrt(head_width)
    fused = builder.linear(hidden, prefix + "qkv", np.concatenate(kernels), np.concatenate(biases))
    shape = builder.integers(0, 0, 3, builder.heads, head_width)
    apart = builder.node("Transpose", [builder.node("Reshape", [fused, shape])], perm=[2, 0, 3, 1, 4])
    query, key, value = (
        builder.node("Gather", [apart, _scalar(builder, index)], axis=0) for index in range(3)
    )
    turned = builder.node("Transpose", [key], perm=[0, 1, 3, 2])
    scores = builder.node("Add", [builder.node("MatMul", [query, turned]), score_bias])
    mixed = builder.node("MatMul", [builder.node("Softmax", [scores], axis=-1), value])
    joined = builder.node("Transpose", [mixed], perm=[0, 2, 1, 3])
    return builder.node("Reshape", [joined, builder.integers(0, 0, builder.width)])


def _scalar(builder: _Builder, value: int) -> str:
    name = f"index_{value}"
    builder.constants[name] = numpy_helper.from_array(np.array(value, dtype=np.int64), name)
    return name


def _pool(builder: _Builder, hidden: str) -> None:
    """Mean over the tokens that are not padding, then L2 norm 1. Source: Reimers & Gurevych 2019."""
    weights = builder.node("Unsqueeze", ["mask", builder.integers(2)])
    weighted = builder.node("Mul", [hidden, weights])
    total = builder.node("ReduceSum", [weighted, builder.integers(1)], keepdims=0)
    count = builder.node("ReduceSum", ["mask", builder.integers(1)], keepdims=1)
    floor = builder.floats("smallest", np.array([1e-9]))
    mean = builder.node("Div", [total, builder.node("Max", [count, floor])])
    norm = builder.node("ReduceL2", [mean, builder.integers(1)], keepdims=1)
    builder.node("Div", [mean, builder.node("Max", [norm, floor])], "embedding")
