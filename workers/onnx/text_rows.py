"""Texts through a graph: padding on the way in, one vector for each text on the way out.

Owns which inputs and which output of the graph are used, and pooling. What the vectors mean
(an embedding, a score, logits) is for the tasks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import tokenizers
from numpy.typing import NDArray

from inference_mesh import tensors
from inference_mesh.errors import ModelNotReadyError
from workers.onnx.batching import Row
from workers.onnx.model_files import Description, Pooling
from workers.onnx.rows import RunGraph
from workers.onnx.signature import Signature, TensorInfo

FloatArray: TypeAlias = NDArray[np.float32]

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
GROUP = "texts"
POOLED_NAMES = ("sentence_embedding", "embedding", "embeddings", "logits", "scores")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class TextRow(Row):
    """One text, or one pair of texts. ids, type_ids: int64 (tokens,)."""

    ids: NDArray[np.int64]
    type_ids: NDArray[np.int64]


def text_row(index: int, encoding: tokenizers.Encoding) -> TextRow:
    """The row of an encoded text."""
    return TextRow(
        index=index,
        length=len(encoding),
        lines=1,
        group=GROUP,
        ids=np.asarray(encoding.ids, dtype=np.int64),
        type_ids=np.asarray(encoding.type_ids, dtype=np.int64),
    )


def row_of_ids(index: int, ids: Sequence[int]) -> TextRow:
    """The row of a text that came as token ids."""
    array = np.asarray(ids, dtype=np.int64)
    return TextRow(
        index=index, length=len(array), lines=1, group=GROUP, ids=array, type_ids=np.zeros_like(array)
    )


class TextRows:
    """Runs texts; each result is float32 (width,).

    Raises ModelNotReadyError if the graph is not one for texts.
    """

    def __init__(self, signature: Signature, description: Description, pad_id: int) -> None:
        self._inputs = _text_inputs(signature)
        self._output = _text_output(signature, description)
        self._pooling = _pooling(self._output, description)
        self._pad_id = pad_id

    @property
    def pools_here(self) -> bool:
        """True if the graph gives a vector for each token."""
        return self._pooling != "in-graph"

    def compute(self, rows: Sequence[TextRow], run: RunGraph) -> list[FloatArray]:
        """The vector of each text."""
        lengths = np.array([row.length for row in rows])
        mask = np.arange(lengths.max()) < lengths[:, None]
        arrays = {MASK: mask, IDS: np.full(mask.shape, self._pad_id), TYPES: np.zeros(mask.shape, np.int64)}
        arrays[IDS][mask] = np.concatenate([row.ids for row in rows])
        if TYPES in self._inputs:
            arrays[TYPES][mask] = np.concatenate([row.type_ids for row in rows])
        feeds = {name: arrays[name].astype(dtype) for name, dtype in self._inputs.items()}
        (output,) = run([self._output.name], feeds)
        return list(pool(output.astype(np.float32, copy=False), mask, self._pooling))


def pool(output: FloatArray, mask: NDArray[np.bool_], pooling: Pooling) -> FloatArray:
    """One vector for each text, float32 (batch, width).

    output: (batch, tokens, width), or (batch, width) for "in-graph"; mask: (batch, tokens),
    False = padding. Source: Reimers & Gurevych 2019 (Sentence-BERT), pooling.
    """
    if pooling == "in-graph":
        return output
    if pooling == "cls":
        return output[:, 0]
    summed = np.einsum("btw,bt->bw", output, mask.astype(np.float32))
    means: FloatArray = (summed / mask.sum(axis=1, keepdims=True)).astype(np.float32)
    return means


def looks_like_text(signature: Signature) -> bool:
    """True if the graph takes token ids and gives something that an embedding can be made of."""
    return IDS in signature.inputs and any(_is_vector(info) for info in signature.outputs.values())


def _text_inputs(signature: Signature) -> dict[str, np.dtype[np.int64]]:
    strange = [name for name in signature.inputs if name not in (IDS, MASK, TYPES)]
    if strange or IDS not in signature.inputs:
        named = f"has the input '{strange[0]}'" if strange else f"has no input '{IDS}'"
        raise ModelNotReadyError(f"the model {named}; a text model takes {IDS}, {MASK} and {TYPES}")
    wrong = [info for info in signature.inputs.values() if info.datatype not in ("INT64", "INT32")]
    if wrong:
        raise ModelNotReadyError(
            f"input '{wrong[0].name}' is {wrong[0].datatype}; a text model takes INT64 or INT32"
        )
    return {name: tensors.DATATYPES[info.datatype] for name, info in signature.inputs.items()}


def _text_output(signature: Signature, description: Description) -> TensorInfo:
    if description.output is not None:
        named = signature.outputs.get(description.output)
        if named is None or not _is_vector(named):
            raise ModelNotReadyError(
                f"model.json names the output '{description.output}'; "
                "it must be one of floats with 2 or 3 dimensions"
            )
        return named
    candidates = [info for info in signature.outputs.values() if _is_vector(info)]
    if not candidates:
        raise ModelNotReadyError("the model has no output of floats with 2 or 3 dimensions")
    known = [info for info in candidates if info.name in POOLED_NAMES]
    return (known or candidates)[0]


def _is_vector(info: TensorInfo) -> bool:
    return info.datatype in ("FP32", "FP16", "FP64") and len(info.shape) in (2, 3)


def _pooling(output: TensorInfo, description: Description) -> Pooling:
    rank = len(output.shape)
    if description.pooling is None:
        return "mean" if rank == 3 else "in-graph"
    if (description.pooling == "in-graph") != (rank == 2):
        raise ModelNotReadyError(
            f"model.json: pooling is '{description.pooling}'; output '{output.name}' has {rank} dimensions"
        )
    return description.pooling
