"""Removes padding inside a graph for texts: what works on each token alone works on tokens only.

Owns the rewriting of a graph, not whether it pays. Between attentions a transformer treats every
token by itself, and padding costs there what a token does. The rewritten graph packs the tokens
of all texts, (batch, tokens, width) -> (packed, width), from the embedding or a product with
weights on, and unpacks them where an operator looks across tokens. A place that the mask
hides is unpacked as a copy of the last token before it in its text; a graph whose answer depends on
what it holds gives another answer then, which is for the caller to find out by comparing.
Source: Zeng et al. 2022 ("Boosting distributed training performance of the unpadded BERT model").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

IDS, MASK = "input_ids", "attention_mask"
PREFIX = "unpadding/"
# Of each token its place in its text and among all places; of each place its token; batch and tokens.
COLUMN, PLACE, TOKEN, SIZE = (f"{PREFIX}{name}" for name in ("column", "place", "token", "size"))
LAST = 2**31 - 1
LEAST_OPSET = 13
"""Before it, Squeeze and others took their axes otherwise."""
UNARY = frozenset({"Gelu", "Erf", "Tanh", "Relu", "Sigmoid", "Sqrt", "Neg", "Identity", "QuickGelu"})
BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Pow"})
PRODUCTS = frozenset({"MatMul", "MatMulNBits"})

Shapes = Mapping[str, tuple[int | str, ...]]
"""Of each tensor: "batch" and "tokens" where a size follows the inputs, else numbers."""


@dataclasses.dataclass
class _Rewriting:
    """A graph on its way. packed: the name of the (packed, width) form of a tensor that has one."""

    shapes: Shapes
    constants: dict[str, onnx.TensorProto]
    nodes: list[onnx.NodeProto] = dataclasses.field(default_factory=list)
    packed: dict[str, str] = dataclasses.field(default_factory=dict)
    unpacked: set[str] = dataclasses.field(default_factory=set)
    added: dict[str, onnx.TensorProto] = dataclasses.field(default_factory=dict)
    product_count: int = 0

    def add(self, operator: str, inputs: Iterable[str], output: str, **attributes: Any) -> str:
        """A node more; the name of its output."""
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def integers(self, *values: int) -> str:
        """The name of a constant list of integers."""
        name = PREFIX + "ints_" + "_".join(str(value) for value in values)
        self.added[name] = numpy_helper.from_array(np.array(values, dtype=np.int64), name)
        return name


def without_padding(model: onnx.ModelProto, shapes: Shapes) -> onnx.ModelProto | None:
    """The same model with its tokens packed; None if fewer than two products with weights gain by it.

    shapes: of every tensor that a node makes. The weights are shared with `model`, not copied.
    """
    graph = model.graph
    if {IDS, MASK} - {value.name for value in graph.input} or _opset(model) < LEAST_OPSET:
        return None
    rewriting = _Rewriting(shapes, {tensor.name: tensor for tensor in graph.initializer})
    _add_places(rewriting)
    for node in graph.node:
        if not _pack_node(rewriting, node):
            _keep_node(rewriting, node)
    for value in graph.output:
        _unpack(rewriting, value.name)
    if rewriting.product_count < 2:
        return None
    return _model_with(model, rewriting)


def _add_places(rewriting: _Rewriting) -> None:
    """Where the tokens are, and which token each place of a padded tensor shows.

    The first place of every text counts as a token, whatever the mask says: so no place is ever
    shown a token of another text, which may be another caller's.
    """
    given = rewriting.add("Cast", [MASK], PREFIX + "given", to=onnx.TensorProto.BOOL)
    zero, one, end = (rewriting.integers(value) for value in (0, 1, LAST))
    first = rewriting.add("Slice", [given, zero, one, one], PREFIX + "first")
    others = rewriting.add("Slice", [given, one, end, one], PREFIX + "others")
    hidden = rewriting.add("Not", [first], PREFIX + "hidden")
    always = rewriting.add("Or", [first, hidden], PREFIX + "always")
    mask = rewriting.add("Concat", [always, others], PREFIX + "mask", axis=1)
    found = rewriting.add("NonZero", [mask], PREFIX + "found")
    rewriting.add("Gather", [found, _index(rewriting, 1)], COLUMN, axis=0)
    flat_mask = rewriting.add("Reshape", [mask, rewriting.integers(-1)], PREFIX + "flat_mask")
    flat_found = rewriting.add("NonZero", [flat_mask], PREFIX + "flat_found")
    rewriting.add("Squeeze", [flat_found, zero], PLACE)
    counted = rewriting.add("Cast", [flat_mask], PREFIX + "counted", to=onnx.TensorProto.INT64)
    rank = rewriting.add("CumSum", [counted, _index(rewriting, 0)], PREFIX + "rank")
    flat_token = rewriting.add("Sub", [rank, one], PREFIX + "flat_token")
    size = rewriting.add("Shape", [mask], SIZE)
    rewriting.add("Reshape", [flat_token, size], TOKEN)


def _opset(model: onnx.ModelProto) -> int:
    return max((int(one.version) for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)


def _index(rewriting: _Rewriting, value: int) -> str:
    name = f"{PREFIX}index_{value}"
    rewriting.added[name] = numpy_helper.from_array(np.array(value, dtype=np.int64), name)
    return name


def _pack_node(rewriting: _Rewriting, node: onnx.NodeProto) -> bool:
    """Add the node in its packed form, if it has one."""
    if len(node.output) != 1 or node.output[0] not in rewriting.shapes:
        return False
    if not _is_of_tokens(rewriting, node.output[0]):
        return False
    inputs = _packed_inputs(rewriting, node)
    if inputs is None:
        return False
    packed = PREFIX + node.output[0]
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = PREFIX + (node.name or node.output[0])
    copy.input[:] = inputs
    copy.output[:] = [packed]
    for attribute in copy.attribute:
        if attribute.name == "axis" and node.op_type == "LayerNormalization":
            attribute.i = -1
    rewriting.nodes.append(copy)
    rewriting.packed[node.output[0]] = packed
    rewriting.product_count += node.op_type in PRODUCTS
    return True


def _packed_inputs(rewriting: _Rewriting, node: onnx.NodeProto) -> list[str] | None:
    """The inputs of the node's packed form; None if it has none."""
    given = list(node.input)
    constants = rewriting.constants
    if node.op_type == "Gather":
        is_lookup = len(given) == 2 and given[0] in constants and _axis(node, 0) == 0
        shape = rewriting.shapes.get(given[1]) if is_lookup else None
        return [given[0], _packed_ids(rewriting, given[1])] if shape == ("batch", "tokens") else None
    if node.op_type in PRODUCTS and all(name in constants for name in given[1:]):
        has_one_matrix = node.op_type != "MatMul" or len(constants[given[1]].dims) == 2
        return [_pack(rewriting, given[0]), *given[1:]] if has_one_matrix else None
    if given[0] not in rewriting.packed and (len(given) < 2 or given[1] not in rewriting.packed):
        return None
    if node.op_type == "LayerNormalization":
        return [rewriting.packed[given[0]], *given[1:]] if _axis(node, -1) in (-1, 2) else None
    if node.op_type in UNARY:
        return [rewriting.packed[given[0]]]
    if node.op_type in BINARY:
        operands = [_operand(rewriting, name) for name in given]
        return [name for name in operands if name] if all(operands) else None
    return None


def _operand(rewriting: _Rewriting, name: str) -> str | None:
    """An operand beside packed ones: packed, a constant that is the same for each token, or of places."""
    if name in rewriting.packed:
        return rewriting.packed[name]
    if name in rewriting.constants:
        return _flat_constant(rewriting, name)
    shape = rewriting.shapes.get(name, ())
    if shape[:1] == ("tokens",) and len(shape) == 2:
        return _of_columns(rewriting, name)
    if shape[:2] == (1, "tokens") and len(shape) == 3:
        row = rewriting.add("Squeeze", [name, rewriting.integers(0)], f"{PREFIX}row/{name}")
        return _of_columns(rewriting, name, row)
    return None


def _of_columns(rewriting: _Rewriting, name: str, row: str = "") -> str:
    """What a tensor says of each place of a text, for each token."""
    packed = f"{PREFIX}columns/{name}"
    return rewriting.add("Gather", [row or name, COLUMN], packed, axis=0)


def _flat_constant(rewriting: _Rewriting, name: str) -> str | None:
    """A constant that broadcasts over (packed, width) as it did over (batch, tokens, width)."""
    tensor = rewriting.constants[name]
    if len(tensor.dims) <= 1:
        return name
    if any(size != 1 for size in tensor.dims[:-1]):
        return None
    flat = f"{PREFIX}flat/{name}"
    rewriting.added[flat] = numpy_helper.from_array(numpy_helper.to_array(tensor).reshape(-1), flat)
    return flat


def _packed_ids(rewriting: _Rewriting, name: str) -> str:
    """The packed form of ids, (packed,)."""
    if name not in rewriting.packed:
        flat = rewriting.add("Reshape", [name, rewriting.integers(-1)], f"{PREFIX}flat/{name}")
        rewriting.packed[name] = rewriting.add("Gather", [flat, PLACE], f"{PREFIX}packed/{name}", axis=0)
        rewriting.unpacked.add(name)
    return rewriting.packed[name]


def _pack(rewriting: _Rewriting, name: str) -> str:
    """The packed form of a tensor of tokens, (packed, width)."""
    if name not in rewriting.packed:
        width = rewriting.shapes[name][2]
        flat = rewriting.add("Reshape", [name, rewriting.integers(-1, int(width))], f"{PREFIX}flat/{name}")
        rewriting.packed[name] = rewriting.add("Gather", [flat, PLACE], f"{PREFIX}packed/{name}", axis=0)
        rewriting.unpacked.add(name)
    return rewriting.packed[name]


def _keep_node(rewriting: _Rewriting, node: onnx.NodeProto) -> None:
    """Add the node as it is, after what it reads."""
    is_shape = node.op_type == "Shape" and not node.attribute and node.input[0] in rewriting.packed
    if is_shape and _is_of_tokens(rewriting, node.input[0]):
        width = rewriting.integers(int(rewriting.shapes[node.input[0]][2]))
        rewriting.add("Concat", [SIZE, width], node.output[0], axis=0)
        return
    for name in (*node.input, *_outer_names(node)):
        _unpack(rewriting, name)
    rewriting.nodes.append(node)


def _unpack(rewriting: _Rewriting, name: str) -> None:
    """Make the tensor under its own name, if it is there in its packed form only."""
    if name in rewriting.packed and name not in rewriting.unpacked:
        rewriting.unpacked.add(name)
        rewriting.add("Gather", [rewriting.packed[name], TOKEN], name, axis=0)


def _outer_names(node: onnx.NodeProto) -> list[str]:
    """What the graphs inside a node read."""
    graphs = [graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)]
    inner = [one for graph in graphs for one in graph.node]
    return [name for one in inner for name in (*one.input, *_outer_names(one))]


def _is_of_tokens(rewriting: _Rewriting, name: str) -> bool:
    shape = rewriting.shapes.get(name, ())
    return len(shape) == 3 and shape[:2] == ("batch", "tokens") and isinstance(shape[2], int)


def _axis(node: onnx.NodeProto, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "axis"), default)


def _model_with(model: onnx.ModelProto, rewriting: _Rewriting) -> onnx.ModelProto:
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    del rewritten.graph.node[:]
    rewritten.graph.node.extend(rewriting.nodes)
    rewritten.graph.initializer.extend(rewriting.added.values())
    del rewritten.graph.value_info[:]  # of tensors that may be gone
    return rewritten
