"""Errors in OpenAI's form: {"error": {"message", "type", "param", "code"}}. Pure.

The four keys are always there; clients pick the class of their exception by the HTTP status, and
programs look at `code`.
"""

from __future__ import annotations

import grpc

from inference_mesh.errors import InputTooLongError, MeshError, ModelNotFoundError, TokenBudgetError
from rest_bridge.fields import InvalidFieldError, UnsupportedFieldError

SERVER_CODES = frozenset(
    {
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DATA_LOSS,
    }
)


def error_document(error: MeshError) -> dict[str, object]:
    """The body of a MeshError."""
    param = error.param if isinstance(error, InvalidFieldError) else None
    if isinstance(error, ModelNotFoundError):
        param = "model"
    return _document(error.message, _type_of(error), param, code_of(error))


def refusal_document(status: int, message: str) -> dict[str, object]:
    """The body of a refusal by HTTP itself, such as a path that does not exist."""
    return _document(message, "invalid_request_error" if status < 500 else "server_error", None, None)


def code_of(error: MeshError) -> str | None:
    """The word by which programs tell the error from others."""
    if isinstance(error, ModelNotFoundError):
        return "model_not_found"
    if isinstance(error, UnsupportedFieldError):
        return "unsupported_parameter"
    if isinstance(error, InputTooLongError):
        return "context_length_exceeded"
    if error.code is grpc.StatusCode.UNAUTHENTICATED:
        return "invalid_api_key"
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return "rate_limit_exceeded"
    return error.reason.lower()


def _document(message: str, kind: str, param: str | None, code: str | None) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _type_of(error: MeshError) -> str:
    if isinstance(error, TokenBudgetError):
        return "tokens"
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return "requests"
    return "server_error" if error.code in SERVER_CODES else "invalid_request_error"
