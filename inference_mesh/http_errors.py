"""Errors as the JSON that every HTTP port of the mesh answers.

Owns the form {"error": {"code", "message", "request_id", …}}, the headers that go with it, and the
codes of refusals that HTTP itself makes (no such path, body too slow). Does not own when to
refuse. Where there is something to tell, the form also has "retry_after_s", "quota" (the limits
that were reached) and "delivered_tokens" (of a stream that broke).
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

LONGEST_RETRY_AFTER_S = 120
"""Clients of the OpenAI kind do not retry at all where a header names more; the body has the whole hint."""

Headers = list[tuple[bytes, bytes]]


def answer_of_status(status: int, message: str, request_id: str) -> tuple[int, Headers, bytes]:
    """Status, headers and body of a refusal by HTTP itself."""
    code = CODE_OF_HTTP_STATUS.get(status, grpc.StatusCode.UNKNOWN)
    return _answer(status, _document(code, message, request_id, {}))


def answer_of_error(error: MeshError, request_id: str) -> tuple[int, Headers, bytes]:
    """Status, headers and body of a MeshError; its hint is in `retry-after` and `retry-after-ms`."""
    status, headers, body = _answer(http_status(error), document_of_error(error, request_id))
    if error.retry_after_s is not None:
        retry_after_s = min(max(0.0, error.retry_after_s), LONGEST_RETRY_AFTER_S)
        headers.append((b"retry-after", str(math.ceil(retry_after_s)).encode()))
        headers.append((b"retry-after-ms", str(math.ceil(round(retry_after_s * 1000, 3))).encode()))
    if error.code is grpc.StatusCode.UNAUTHENTICATED:
        headers.append((b"www-authenticate", b"Bearer"))
    return status, headers, body


def document_of_error(error: MeshError, request_id: str, *, delivered_tokens: int | None = None) -> bytes:
    """The body of a MeshError. delivered_tokens: of a stream that broke; None = not told."""
    details: dict[str, object] = {}
    if error.retry_after_s is not None:
        details["retry_after_s"] = round(error.retry_after_s, 3)
    if error.violations:
        details["quota"] = [
            {"subject": one.subject, "description": one.description} for one in error.violations
        ]
    if delivered_tokens is not None:
        details["delivered_tokens"] = delivered_tokens
    return _document(error.code, error.message, request_id, details)


def _document(code: grpc.StatusCode, message: str, request_id: str, details: dict[str, object]) -> bytes:
    return orjson.dumps(
        {"error": {"code": code.name, "message": message, "request_id": request_id, **details}}
    )


def _answer(status: int, body: bytes) -> tuple[int, Headers, bytes]:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    return status, headers, body
