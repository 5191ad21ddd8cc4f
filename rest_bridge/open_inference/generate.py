"""POST /v2/models/{model}/generate and generate_stream: Triton's generate extension. Pure.

Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_generate.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inference_mesh import json_payload, strict_json
from inference_mesh.errors import InvalidInputError, MeshError
from inference_mesh.v1 import inference_pb2, payload_pb2
from rest_bridge.dialect_endpoint import Asked
from rest_bridge.fields import Fields

OWN = frozenset({"id", "text_input", "parameters", "model", "version", "stream"})
"""Of the body and the path; every other key is a parameter, as Triton has it."""

OTHER_NAMES = {"stop_words": "stop", "random_seed": "seed"}
"""How Triton's language model backends call what our payload calls otherwise."""

IGNORED = frozenset({"stream", "exclude_input_in_output"})


def read_generate(fields: Fields, request_id: str) -> Asked:
    """What a body of `generate` asks for. Raises InvalidFieldError, InvalidInputError."""
    document = {"prompt": fields.required_text("text_input"), **_parameters(fields)}
    payload = json_payload.payload_from_json(payload_pb2.TASK_GENERATE, document)
    if payload.generate.n > 1 or payload.generate.HasField("top_logprobs"):
        raise InvalidInputError(
            "parameters: n and top_logprobs have no form in this protocol; use /api/infer"
        )
    own_id = fields.text("id", request_id, longest=128)
    return Asked(
        fields.required_text("model"),
        [payload],
        version=fields.text("version"),
        document=lambda responses: _document(responses[0], responses[0].output.generate.text, own_id),
    )


def read_generate_stream(fields: Fields, request_id: str) -> Asked:
    """What a body of `generate_stream` asks for."""
    asked = read_generate(fields, request_id)
    return Asked(
        asked.model,
        asked.payloads,
        version=asked.version,
        document=asked.document,
        events=GenerateEvents(fields.text("id", request_id, longest=128)),
    )


class GenerateEvents:
    """The events of one text: a document for each piece, and no event at the end."""

    def __init__(self, own_id: str) -> None:
        self._head = inference_pb2.InferResponse()
        self._id = own_id

    def events_of(self, piece: inference_pb2.InferStreamResponse) -> bytes:
        """The event of a piece; empty for one without text."""
        if piece.model:
            self._head = inference_pb2.InferResponse(model=piece.model, version=piece.version)
        text = piece.output.generate.text
        if not text and not piece.output.generate.finish_reason:
            return b""
        return _event(_document(self._head, text, self._id))

    def end(self) -> bytes:
        """Nothing: the body ends."""
        return b""

    def failure(self, error: MeshError, _delivered_tokens: int | None) -> bytes:
        """An event whose JSON has "error"."""
        return _event({"error": error.message})


def _parameters(fields: Fields) -> Mapping[str, Any]:
    nested = fields.nested("parameters")
    given = {name: nested[name] for name in nested.names()} if nested is not None else {}
    given |= {name: fields[name] for name in fields.names() if name not in OWN}
    return {OTHER_NAMES.get(name, name): value for name, value in given.items() if name not in IGNORED}


def _document(response: inference_pb2.InferResponse, text: str, own_id: str) -> dict[str, object]:
    return {
        "id": own_id,
        "model_name": response.model,
        "model_version": response.version,
        "text_output": text,
    }


def _event(document: Mapping[str, object]) -> bytes:
    return b"data: " + strict_json.dumps(document) + b"\n\n"
