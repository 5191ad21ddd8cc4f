"""Tasks embed and rerank on a GGUF model: payloads as token ids, vectors as outputs.

Owns what each task makes of a request; the queue computes in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from inference_mesh.errors import InvalidInputError, PayloadMismatchError
from inference_mesh.v1 import payload_pb2
from workers.llama.text_context import FloatArray
from workers.llama.text_reader import TextReader
from workers.text_tasks.answers import check_dimensions, embeddings, normalised, ranking
from workers.text_tasks.prompts import Prompts
from workers.text_tasks.texts import LARGE_CHARACTERS, check_count, check_texts


class TextTask(Protocol):
    """One thing that a model can do with texts."""

    def is_large(self, payload: payload_pb2.Payload) -> bool:
        """True if reading may take milliseconds, so that it must leave the event loop."""

    def read(self, payload: payload_pb2.Payload) -> list[list[int]]:
        """The token ids of each text. Raises InvalidInputError, InputTooLongError."""

    def answer(self, payload: payload_pb2.Payload, vectors: Sequence[FloatArray]) -> payload_pb2.Output:
        """The output, from the vectors of the texts in their order."""


class EmbedTask:
    """Takes `Embed`, answers `Embeddings` of length 1. width: numbers of a vector."""

    def __init__(self, reader: TextReader, prompts: Prompts, width: int) -> None:
        self._reader = reader
        self._prompts = prompts
        self._width = width

    def is_large(self, payload: payload_pb2.Payload) -> bool:
        """True if there is more than a page of text."""
        embed = payload.embed
        characters = sum(map(len, embed.texts)) + sum(len(tokens.ids) for tokens in embed.tokens)
        return characters > LARGE_CHARACTERS

    def read(self, payload: payload_pb2.Payload) -> list[list[int]]:
        """The token ids of each text, its instruction first."""
        if payload.WhichOneof("kind") != "embed":
            raise PayloadMismatchError("this model embeds texts: the payload must be 'embed'")
        embed = payload.embed
        check_dimensions(embed.dimensions, self._width)
        if embed.tokens:
            return self._read_ids(embed)
        check_texts(embed.texts, "texts")
        prefix = self._prompts.prefix(embed.prompt_name)
        return [
            self._reader.text(prefix + text, f"texts[{index}]", is_cut=embed.truncate)
            for index, text in enumerate(embed.texts)
        ]

    def answer(self, payload: payload_pb2.Payload, vectors: Sequence[FloatArray]) -> payload_pb2.Output:
        """The vectors as wide as asked for."""
        dimensions = payload.embed.dimensions or self._width
        return embeddings(normalised(np.stack(vectors)[:, :dimensions]))

    def _read_ids(self, embed: payload_pb2.Embed) -> list[list[int]]:
        if embed.texts:
            raise InvalidInputError("tokens: not together with texts")
        if embed.prompt_name:
            raise InvalidInputError("prompt_name: not together with tokens, which are taken as they stand")
        check_count(len(embed.tokens), "tokens")
        return [
            self._reader.ids(tokens.ids, f"tokens[{index}].ids", is_cut=embed.truncate)
            for index, tokens in enumerate(embed.tokens)
        ]


class RerankTask:
    """Takes `Rerank`, answers `Ranking`; scores are the model's own."""

    def __init__(self, reader: TextReader) -> None:
        self._reader = reader

    def is_large(self, payload: payload_pb2.Payload) -> bool:
        """True if there is more than a page of text."""
        rerank = payload.rerank
        characters = sum(map(len, rerank.documents)) + len(rerank.query) * len(rerank.documents)
        return characters > LARGE_CHARACTERS

    def read(self, payload: payload_pb2.Payload) -> list[list[int]]:
        """The token ids of the query with each document."""
        if payload.WhichOneof("kind") != "rerank":
            raise PayloadMismatchError("this model ranks documents: the payload must be 'rerank'")
        rerank = payload.rerank
        if not rerank.query:
            raise InvalidInputError("query is empty; it needs at least one character")
        check_texts(rerank.documents, "documents")
        return [
            self._reader.pair(
                rerank.query, document, f"query with documents[{index}]", is_cut=rerank.truncate
            )
            for index, document in enumerate(rerank.documents)
        ]

    def answer(self, payload: payload_pb2.Payload, vectors: Sequence[FloatArray]) -> payload_pb2.Output:
        """The documents, best first; all, or the best `top_n`."""
        return ranking([float(vector[0]) for vector in vectors], payload.rerank.top_n)
