"""Task embed: one vector for each text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from inference_mesh.errors import InvalidInputError
from inference_mesh.v1 import payload_pb2
from workers.onnx.rows import Work
from workers.onnx.text_rows import FloatArray, TextRow, TextRows, row_of_ids, text_row
from workers.onnx.tokenizer import Tokenizer
from workers.text_tasks.answers import check_dimensions, embeddings, normalised
from workers.text_tasks.prompts import Prompts
from workers.text_tasks.texts import LARGE_CHARACTERS, check_count, check_texts


class EmbedTask:
    """Takes `Embed`, answers `Embeddings`. normalise: make every vector one of length 1."""

    def __init__(
        self, tokenizer: Tokenizer, kind: TextRows, prompts: Prompts, *, dimensions: int, normalise: bool
    ) -> None:
        self._tokenizer = tokenizer
        self._kind = kind
        self._prompts = prompts
        self._dimensions = dimensions
        self._normalise = normalise

    def is_large(self, payload: payload_pb2.Payload) -> bool:
        """True if there is more than a page of text."""
        embed = payload.embed
        size = sum(map(len, embed.texts)) + sum([len(tokens.ids) for tokens in embed.tokens])
        return size > LARGE_CHARACTERS

    def encode(self, payload: payload_pb2.Payload) -> Work:
        """A row for each text, its instruction first. Raises InvalidInputError, InputTooLongError."""
        embed = payload.embed
        check_dimensions(embed.dimensions, self._dimensions)
        rows = self._rows_of_ids(embed) if embed.tokens else self._rows_of_texts(embed)
        return Work(self._kind, rows, prompt_tokens=sum([row.length for row in rows]))

    def decode(self, payload: payload_pb2.Payload, results: Sequence[Any]) -> payload_pb2.Output:
        """The vectors in the order of the texts, as wide as asked for."""
        vectors: FloatArray = np.stack(results) if len(results) > 1 else results[0][np.newaxis]
        dimensions = payload.embed.dimensions
        if dimensions:
            vectors = vectors[:, :dimensions]
        if dimensions or self._normalise:
            vectors = normalised(vectors)
        return embeddings(vectors)

    def _rows_of_texts(self, embed: payload_pb2.Embed) -> list[TextRow]:
        check_texts(embed.texts, "texts")
        prefix = self._prompts.prefix(embed.prompt_name)
        texts = [prefix + text for text in embed.texts] if prefix else embed.texts
        if embed.truncate:
            encodings = [self._tokenizer.encode_cut(text) for text in texts]
        else:
            encodings = [self._tokenizer.encode(text, f"texts[{index}]") for index, text in enumerate(texts)]
        return [text_row(index, encoding) for index, encoding in enumerate(encodings)]

    def _rows_of_ids(self, embed: payload_pb2.Embed) -> list[TextRow]:
        if embed.texts:
            raise InvalidInputError("tokens: not together with texts")
        if embed.prompt_name:
            raise InvalidInputError("prompt_name: not together with tokens, which are taken as they stand")
        check_count(len(embed.tokens), "tokens")
        rows = []
        for index, tokens in enumerate(embed.tokens):
            place = f"tokens[{index}].ids"
            ids = tokens.ids[: self._tokenizer.max_tokens] if embed.truncate else tokens.ids
            self._tokenizer.check_length(len(ids), place)
            self._tokenizer.check_ids(ids, place)
            rows.append(row_of_ids(index, ids))
        return rows
