"""What a graph for texts does with made-up texts: the shapes of all that it computes, and its answer.

Owns the made-up texts and the comparison of two graphs on them. Shapes are seen, not inferred:
exporters write reshapes that no inference of shapes follows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
from numpy.typing import NDArray

from workers.onnx.unpadding import IDS, MASK, Shapes

SEVERITY_FATAL = 4
SMALLER, LARGER = (2, 3), (5, 7)
"""Two sizes (batch, tokens): what differs between them in a shape is a batch or tokens."""
LENGTHS, LONGEST = (6, 4, 3, 1), 6
MOST_ID = 9
"""Every vocabulary has so many tokens."""
RELATIVE, ABSOLUTE = 1e-4, 1e-5

Arrays = Mapping[str, NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class Observed:
    """shapes: of every tensor of the graph. outputs: its answer to the padded texts, by name."""

    shapes: Shapes
    outputs: Arrays


def observe(model: onnx.ModelProto) -> Observed:
    """Run a graph for texts on made-up ones, unoptimised. Raises what onnxruntime raises."""
    outputs = [value.name for value in model.graph.output]
    session = ort.InferenceSession(_with_all_outputs(model), plain_options(), enable_fallback=0)
    names = [value.name for value in session.get_outputs()]
    small, large = (
        [array.shape for array in session.run(names, _feeds(session, *_whole(size)))]
        for size in (SMALLER, LARGER)
    )
    shapes = {name: _shape(*both) for name, *both in zip(names, small, large, strict=True)}
    shapes |= {value.name: ("batch", "tokens") for value in session.get_inputs()}
    return Observed(shapes, answers(session, outputs))


def answers(session: ort.InferenceSession, outputs: Sequence[str]) -> Arrays:
    """The answer of a graph for texts to made-up padded texts."""
    return dict(zip(outputs, session.run(list(outputs), _feeds(session, *_padded())), strict=True))


def agree(found: Arrays, wanted: Observed) -> bool:
    """True if an answer is the wanted one; what is told of hidden places does not count."""
    shown = _padded()[1].astype(bool)
    for name, array in wanted.outputs.items():
        is_of_tokens = wanted.shapes.get(name, ())[:2] == ("batch", "tokens")
        one, other = (found[name][shown], array[shown]) if is_of_tokens else (found[name], array)
        if one.shape != other.shape or not np.allclose(one, other, rtol=RELATIVE, atol=ABSOLUTE):
            return False
    return True


def plain_options() -> ort.SessionOptions:
    """A session of one thread that changes nothing in its graph and logs nothing."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = SEVERITY_FATAL
    return options


def _with_all_outputs(model: onnx.ModelProto) -> bytes:
    """The model with all that its nodes make as outputs; the message itself is as before."""
    outputs = model.graph.output
    known = {value.name for value in outputs}
    made = [name for node in model.graph.node for name in node.output if name and name not in known]
    count = len(outputs)
    outputs.extend(onnx.ValueInfoProto(name=name) for name in made)
    try:
        return bytes(model.SerializeToString())
    finally:
        del outputs[count:]


def _whole(size: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and mask of texts without padding."""
    ids = np.arange(size[0] * size[1], dtype=np.int64).reshape(size) % MOST_ID + 1
    return ids, np.ones_like(ids)


def _padded() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and mask of texts of several lengths, and of one that is padded at its beginning."""
    ids, mask = _whole((len(LENGTHS) + 1, LONGEST))
    for row, length in enumerate(LENGTHS):
        mask[row, length:] = 0
    mask[-1, :2] = 0
    return ids * mask, mask


def _feeds(session: ort.InferenceSession, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Arrays:
    known = {IDS: ids, MASK: mask}
    return {
        value.name: known.get(value.name, np.zeros_like(ids)).astype(
            np.int32 if value.type == "tensor(int32)" else np.int64
        )
        for value in session.get_inputs()
    }


def _shape(small: Sequence[int], large: Sequence[int]) -> tuple[int | str, ...]:
    """The shape whose sizes are these; empty if it follows the inputs in another way."""
    marks = {(size, size): size for size in small}
    named: Mapping[tuple[int, int], int | str] = {
        **marks,
        (SMALLER[0], LARGER[0]): "batch",
        (SMALLER[1], LARGER[1]): "tokens",
    }
    pairs = list(zip(small, large, strict=False))
    if len(small) != len(large) or any(pair not in named for pair in pairs):
        return ()
    return tuple(named[pair] for pair in pairs)
