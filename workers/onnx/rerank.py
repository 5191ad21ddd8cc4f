"""Task rerank: documents by how well they answer a query, from a cross-encoder's one logit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inference_mesh.errors import InvalidInputError
from inference_mesh.v1 import payload_pb2
from workers.onnx.rows import Work
from workers.onnx.text_rows import TextRows, text_row
from workers.onnx.tokenizer import Tokenizer
from workers.text_tasks.answers import ranking
from workers.text_tasks.texts import LARGE_CHARACTERS, check_texts


class RerankTask:
    """Takes `Rerank`, answers `Ranking`; scores are the model's logits."""

    def __init__(self, tokenizer: Tokenizer, kind: TextRows) -> None:
        self._tokenizer = tokenizer
        self._kind = kind

    def is_large(self, payload: payload_pb2.Payload) -> bool:
        """True if there is more than a page of text."""
        rerank = payload.rerank
        characters = sum(len(document) for document in rerank.documents)
        return characters + len(rerank.query) * len(rerank.documents) > LARGE_CHARACTERS

    def encode(self, payload: payload_pb2.Payload) -> Work:
        """A row for each pair of query and document. Raises InvalidInputError, InputTooLongError."""
        query, documents = payload.rerank.query, payload.rerank.documents
        if not query:
            raise InvalidInputError("query is empty")
        check_texts(documents, "documents")
        encode = self._tokenizer.encode_pair_cut if payload.rerank.truncate else self._tokenizer.encode_pair
        rows = [
            text_row(index, encode(query, document, f"query with documents[{index}]"))
            for index, document in enumerate(documents)
        ]
        return Work(self._kind, rows, prompt_tokens=sum(row.length for row in rows))

    def decode(self, payload: payload_pb2.Payload, results: Sequence[Any]) -> payload_pb2.Output:
        """The documents, best first; all, or the best `top_n`."""
        return ranking([float(result[0]) for result in results], payload.rerank.top_n)
