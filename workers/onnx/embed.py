"""Task embed: one vector for each text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from inference_mesh.errors import InvalidInputError
from inference_mesh.v1 import payload_pb2
from workers.onnx.rows import Work
from workers.onnx.text_rows import FloatArray, TextRows, text_row
from workers.onnx.tokenizer import LARGE_CHARACTERS, Tokenizer, check_texts


class EmbedTask:
    """Takes `Embed`, answers `Embeddings`. normalise: make every vector one of length 1."""

    def __init__(self, tokenizer: Tokenizer, kind: TextRows, *, dimensions: int, normalise: bool) -> None:
        self._tokenizer = tokenizer
        self._kind = kind
        self._dimensions = dimensions
        self._normalise = normalise

    def is_large(self, payload: payload_pb2.Payload) -> bool:
        """True if there is more than a page of text."""
        return sum(len(text) for text in payload.embed.texts) > LARGE_CHARACTERS

    def encode(self, payload: payload_pb2.Payload) -> Work:
        """A row for each text. Raises InvalidInputError, InputTooLongError."""
        texts = payload.embed.texts
        check_texts(texts, "texts")
        if payload.embed.dimensions > self._dimensions:
            raise InvalidInputError(
                f"dimensions is {payload.embed.dimensions}; the model has {self._dimensions} (0 = all)"
            )
        if payload.embed.truncate:
            encodings = [self._tokenizer.encode_cut(text) for text in texts]
        else:
            encodings = [self._tokenizer.encode(text, f"texts[{index}]") for index, text in enumerate(texts)]
        rows = [text_row(index, encoding) for index, encoding in enumerate(encodings)]
        return Work(self._kind, rows, prompt_tokens=sum(row.length for row in rows))

    def decode(self, payload: payload_pb2.Payload, results: Sequence[Any]) -> payload_pb2.Output:
        """The vectors in the order of the texts, as wide as asked for."""
        vectors: FloatArray = np.stack(results)
        dimensions = payload.embed.dimensions
        if dimensions:
            vectors = vectors[:, :dimensions]
        if dimensions or self._normalise:
            vectors = normalised(vectors)
        values = vectors.astype("<f4", copy=False).tobytes()
        return payload_pb2.Output(embed=payload_pb2.Embeddings(dimensions=vectors.shape[1], values=values))


def normalised(vectors: FloatArray) -> FloatArray:
    """The vectors (batch, width) with L2 norm 1; a zero vector stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: FloatArray = vectors / np.maximum(norms, np.finfo(np.float32).tiny)
    return unit
