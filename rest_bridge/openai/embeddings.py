"""POST /v1/embeddings: texts as vectors, as JSON numbers or as base64. Pure."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from inference_mesh.v1 import inference_pb2, payload_pb2
from rest_bridge.dialect_endpoint import Asked
from rest_bridge.fields import Fields
from rest_bridge.openai.chat import LONGEST_NAME
from rest_bridge.openai.objects import Json

MOST_INPUTS = 2048
MOST_DIMENSIONS = 1 << 20
FLOAT_BYTES = 4


def read_embedding(fields: Fields, _request_id: str) -> Asked:
    """What a body asks for. Raises InvalidFieldError.

    A text that is too long is refused, as OpenAI does; `truncate` (not OpenAI's) cuts it.
    """
    embed = payload_pb2.Embed(
        dimensions=fields.integer("dimensions", 1, MOST_DIMENSIONS) or 0,
        truncate=fields.flag("truncate"),
        prompt_name=fields.text("prompt_name"),
    )
    _set_input(embed, fields)
    form = fields.choice("encoding_format", ("float", "base64"), "float")
    model = fields.required_text("model", longest=LONGEST_NAME)
    return Asked(
        model, [payload_pb2.Payload(embed=embed)], document=lambda responses: _document(responses[0], form)
    )


def _set_input(embed: payload_pb2.Embed, fields: Fields) -> None:
    """A text, texts, the token ids of one, or those of several."""
    value = fields["input"]
    inputs = [value] if isinstance(value, str) else fields.items("input", most=MOST_INPUTS)
    if inputs and all(isinstance(text, str) for text in inputs):
        embed.texts.extend(inputs)
        return
    lists: list[Any] = [inputs] if inputs and type(inputs[0]) is int else inputs
    if not lists or not all(_are_token_ids(ids) for ids in lists):
        raise fields.wrong("input", f"a text, or a list of 1 to {MOST_INPUTS} texts or lists of token ids")
    embed.tokens.extend(payload_pb2.Tokens(ids=ids) for ids in lists)


def _are_token_ids(ids: object) -> bool:
    if not isinstance(ids, list) or not ids:
        return False
    return all(type(token) is int and 0 <= token < 2**32 for token in ids)


def _document(response: inference_pb2.InferResponse, form: str) -> Json:
    embeddings, usage = response.output.embed, response.usage
    vectors: Sequence[object] = _base64_rows(embeddings) if form == "base64" else list(_rows(embeddings))
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ],
        "model": response.model,
        "usage": {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens},
    }


def _rows(embeddings: payload_pb2.Embeddings) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.frombuffer(embeddings.values, dtype="<f4").reshape(-1, max(1, embeddings.dimensions))


def _base64_rows(embeddings: payload_pb2.Embeddings) -> list[str]:
    """Each vector's float32 numbers, little-endian, as they came from the worker."""
    size = max(1, embeddings.dimensions) * FLOAT_BYTES
    values = embeddings.values
    return [base64.b64encode(values[at : at + size]).decode() for at in range(0, len(values), size)]
