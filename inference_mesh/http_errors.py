"""Errors as the JSON that every HTTP port of the mesh answers.

Owns the form {"error": {"code", "message", "request_id", "retry_after_s"?}} and the codes of
refusals that HTTP itself makes (no such path, body too slow). Does not own when to refuse.
"""

from __future__ import annotations

import math

import grpc
import orjson

from inference_mesh.errors import MeshError, http_status

CODE_OF_HTTP_STATUS: dict[int, grpc.StatusCode] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    406: grpc.StatusCode.INVALID_ARGUMENT,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    417: grpc.StatusCode.INVALID_ARGUMENT,
    431: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
}
"""Codes of the refusals that are made before a MeshError could be."""

Headers = list[tuple[bytes, bytes]]


def error_document(
    code: grpc.StatusCode, message: str, request_id: str, retry_after_s: float | None = None
) -> bytes:
    """The body of an error answer."""
    error: dict[str, object] = {"code": code.name, "message": message, "request_id": request_id}
    if retry_after_s is not None:
        error["retry_after_s"] = round(retry_after_s, 3)
    return orjson.dumps({"error": error})


def answer_of_status(status: int, message: str, request_id: str) -> tuple[int, Headers, bytes]:
    """Status, headers and body of a refusal by HTTP itself."""
    code = CODE_OF_HTTP_STATUS.get(status, grpc.StatusCode.UNKNOWN)
    return _answer(status, error_document(code, message, request_id))


def answer_of_error(error: MeshError, request_id: str) -> tuple[int, Headers, bytes]:
    """Status, headers and body of a MeshError; Retry-After is its hint in whole seconds."""
    body = error_document(error.code, error.message, request_id, error.retry_after_s)
    status, headers, body = _answer(http_status(error), body)
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(max(0, math.ceil(error.retry_after_s))).encode()))
    return status, headers, body


def _answer(status: int, body: bytes) -> tuple[int, Headers, bytes]:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    return status, headers, body
