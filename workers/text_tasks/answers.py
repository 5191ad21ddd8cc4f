"""Vectors and scores as the outputs of embed and rerank. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from inference_mesh.errors import InvalidInputError
from inference_mesh.v1 import payload_pb2

FloatArray: TypeAlias = NDArray[np.float32]


def check_dimensions(asked: int, width: int) -> None:
    """Raises InvalidInputError if more numbers are asked for than a vector of the model has."""
    if asked > width:
        raise InvalidInputError(f"dimensions is {asked}; the model has {width} (0 = all)")


def normalised(vectors: FloatArray) -> FloatArray:
    """The vectors (texts, width) with L2 norm 1; a zero vector stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: FloatArray = vectors / np.maximum(norms, np.finfo(np.float32).tiny)
    return unit


def embeddings(vectors: FloatArray) -> payload_pb2.Output:
    """The vectors (texts, width) as an output."""
    values = vectors.astype("<f4", copy=False).tobytes()
    return payload_pb2.Output(embed=payload_pb2.Embeddings(dimensions=vectors.shape[1], values=values))


def ranking(scores: Sequence[float], top_n: int) -> payload_pb2.Output:
    """The documents of these scores, best first, equal ones in their order; the best top_n, 0 = all."""
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    documents = [
        payload_pb2.RankedDocument(index=index, score=scores[index]) for index in order[: top_n or None]
    ]
    return payload_pb2.Output(rerank=payload_pb2.Ranking(documents=documents))
