"""Task tensors: any model, tensors in and tensors out.

Requests are computed together, along the first axis, when the model treats its rows one by
one and the requests agree in everything but the number of rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from inference_mesh import tensors
from inference_mesh.errors import InternalError, InvalidInputError, MeshError
from inference_mesh.v1 import payload_pb2
from workers.onnx.batching import Row
from workers.onnx.rows import RunGraph, Work
from workers.onnx.sessions import Array
from workers.onnx.signature import Signature, TensorInfo

LARGE_BYTES = 256 * 1024
LARGE_TEXT_BYTES = 16 * 1024
MADE_UP_ROWS = 4


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class TensorRow(Row):
    """All inputs of one request."""

    feeds: Mapping[str, Array]
    outputs: tuple[str, ...]


class TensorRows:
    """Runs requests of tensors."""

    def compute(self, rows: Sequence[TensorRow], run: RunGraph) -> list[list[Array]]:
        """The outputs of each request."""
        if len(rows) == 1:
            return [run(rows[0].outputs, rows[0].feeds)]
        feeds = {name: np.concatenate([row.feeds[name] for row in rows]) for name in rows[0].feeds}
        ends = np.cumsum([row.lines for row in rows])
        outputs = run(rows[0].outputs, feeds)
        if any(output.ndim == 0 or len(output) != ends[-1] for output in outputs):
            raise InternalError("the model's answer does not divide by its rows")
        parts = [np.split(output, ends[:-1]) for output in outputs]
        return [[part[position] for part in parts] for position in range(len(rows))]


class TensorsTask:
    """Takes and answers `Tensors`. is_batched: requests may be computed together."""

    def __init__(self, signature: Signature, *, is_batched: bool) -> None:
        self._signature = signature
        self.is_batched = is_batched
        self._kind = TensorRows()

    def is_large(self, payload: payload_pb2.Payload) -> bool:
        """True from 256 KiB on; texts are split one by one, so from 16 KiB on."""
        return any(
            len(tensor.data) > (LARGE_TEXT_BYTES if tensor.datatype == "BYTES" else LARGE_BYTES)
            for tensor in payload.tensors.tensors
        )

    def encode(self, payload: payload_pb2.Payload) -> Work:
        """One row with all inputs. Raises InvalidInputError naming the tensor and what is allowed."""
        given = payload.tensors.tensors
        self._signature.check_inputs(given)
        outputs = self._signature.chosen_outputs(payload.tensors.outputs)
        feeds = {tensor.name: _to_graph(tensor) for tensor in given}
        feeds = {name: feeds[name] for name in self._signature.inputs}
        lines = self._common_lines(feeds)
        group = _group(feeds, outputs) if lines else None
        row = TensorRow(index=0, length=1, lines=lines, group=group, feeds=feeds, outputs=outputs)
        return Work(self._kind, [row])

    def decode(self, payload: payload_pb2.Payload, results: Sequence[Any]) -> payload_pb2.Output:
        """The outputs that were asked for, in that order."""
        names = self._signature.chosen_outputs(payload.tensors.outputs)
        answered = [tensors.from_array(name, array) for name, array in zip(names, results[0], strict=True)]
        return payload_pb2.Output(tensors=payload_pb2.Tensors(tensors=answered))

    def _common_lines(self, feeds: Mapping[str, Array]) -> int:
        """The size that all first dimensions have; 0 if the request must run alone."""
        if not self.is_batched:
            return 0
        sizes = {len(array) for array in feeds.values()}
        return sizes.pop() if len(sizes) == 1 else 0


def _group(feeds: Mapping[str, Array], outputs: tuple[str, ...]) -> Hashable:
    return (outputs, tuple(array.shape[1:] for array in feeds.values()))


def _to_graph(tensor: payload_pb2.Tensor) -> Array:
    """The array as ONNX Runtime takes it: strings as str."""
    array = tensors.to_array(tensor)
    if tensor.datatype != "BYTES":
        return array
    texts = np.empty(array.size, dtype=object)
    for position, element in enumerate(array.reshape(-1)):
        try:
            texts[position] = element.decode()
        except UnicodeDecodeError:
            raise InvalidInputError(
                f"input '{tensor.name}': element {position} is not UTF-8; ONNX strings are UTF-8 texts"
            ) from None
    return texts.reshape(array.shape)


def treats_rows_alone(signature: Signature, run: RunGraph) -> bool:
    """True if made-up rows give the same together as one by one.

    A first dimension of any size is not always a batch: a model may add, sort or normalise
    along it. A model that refuses the made-up values is not batched.
    """
    if not signature.is_batched:
        return False
    random = np.random.default_rng(seed=1)
    feeds = {info.name: _made_up(info, random) for info in signature.inputs.values()}
    names = list(signature.outputs)
    try:
        together = run(names, feeds)
        singles = [
            run(names, {name: array[row : row + 1] for name, array in feeds.items()})
            for row in range(MADE_UP_ROWS)
        ]
    except MeshError:
        return False
    return all(
        _agree(joint, [single[position] for single in singles]) for position, joint in enumerate(together)
    )


def _made_up(info: TensorInfo, random: np.random.Generator) -> Array:
    """Rows that differ from their neighbours; sizes that are free are 1."""
    shape = (MADE_UP_ROWS, *(1 if size == -1 else size for size in info.shape[1:]))
    if info.datatype == "BYTES":
        texts = np.empty(shape, dtype=object)
        texts.reshape(-1)[:] = [f"row {position}" for position in range(texts.size)]
        return texts
    dtype = tensors.DATATYPES[info.datatype]
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    # 1, 0, 1, 0: ids that every vocabulary has, in an order that sorting would change.
    return np.broadcast_to(
        np.arange(1, MADE_UP_ROWS + 1).reshape(-1, *[1] * (len(shape) - 1)) % 2, shape
    ).astype(dtype)


def _agree(joint: Array, singles: Sequence[Array]) -> bool:
    if any(single.shape != (1, *joint.shape[1:]) for single in singles) or len(joint) != MADE_UP_ROWS:
        return False
    expected = np.concatenate(singles)
    if joint.dtype.kind == "f":
        return bool(np.allclose(joint, expected, rtol=1e-3, atol=1e-4, equal_nan=True))
    return bool(np.array_equal(joint, expected))
