"""A sentence-embedding BERT in float64 numpy, written apart from the converter to check it.

It takes one text at a time, so it has no padding and no mask at all. Source: Devlin et al. 2018,
section 3, and Reimers & Gurevych 2019 for the pooling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

_erf = np.vectorize(math.erf, otypes=[np.float64])


class ReferenceBert:
    """Embeds token ids; slow, exact, and shaped like the papers."""

    def __init__(self, tensors: Mapping[str, NDArray[Any]], *, heads: int) -> None:
        self._tensors = {name: np.asarray(value, dtype=np.float64) for name, value in tensors.items()}
        self._heads = heads

    def embed(self, token_ids: Sequence[int]) -> Matrix:
        """The unit vector of one text: float64 (width,)."""
        hidden = self._embeddings(token_ids)
        layer = 0
        while f"encoder.layer.{layer}.output.dense.weight" in self._tensors:
            hidden = self._layer(hidden, f"encoder.layer.{layer}")
            layer += 1
        mean = hidden.mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean))

    def _embeddings(self, token_ids: Sequence[int]) -> Matrix:
        words = self._tensors["embeddings.word_embeddings.weight"][list(token_ids)]
        positions = self._tensors["embeddings.position_embeddings.weight"][: len(token_ids)]
        kind = self._tensors["embeddings.token_type_embeddings.weight"][0]
        return self._norm(words + positions + kind, "embeddings.LayerNorm")

    def _layer(self, hidden: Matrix, name: str) -> Matrix:
        attended = self._dense(
            self._attend(hidden, f"{name}.attention.self"), f"{name}.attention.output.dense"
        )
        hidden = self._norm(hidden + attended, f"{name}.attention.output.LayerNorm")
        inner = self._dense(hidden, f"{name}.intermediate.dense")
        inner = 0.5 * inner * (1.0 + _erf(inner / math.sqrt(2.0)))
        return self._norm(hidden + self._dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _attend(self, hidden: Matrix, name: str) -> Matrix:
        query, key, value = (self._dense(hidden, f"{name}.{part}") for part in ("query", "key", "value"))
        head_width = hidden.shape[1] // self._heads
        mixed = []
        for head in range(self._heads):
            columns = slice(head * head_width, (head + 1) * head_width)
            scores = query[:, columns] @ key[:, columns].T / math.sqrt(head_width)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            mixed.append(weights / weights.sum(axis=1, keepdims=True) @ value[:, columns])
        return np.concatenate(mixed, axis=1)

    def _dense(self, hidden: Matrix, name: str) -> Matrix:
        return np.asarray(hidden @ self._tensors[f"{name}.weight"].T + self._tensors[f"{name}.bias"])

    def _norm(self, hidden: Matrix, name: str) -> Matrix:
        centred = hidden - hidden.mean(axis=1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-12)
        return np.asarray(centred / scale * self._tensors[f"{name}.weight"] + self._tensors[f"{name}.bias"])
