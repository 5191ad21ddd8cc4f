"""Errors in Anthropic's form: {"type": "error", "error": {"type", "message"}, "request_id"}. Pure."""

from __future__ import annotations

from inference_mesh import telemetry
from inference_mesh.errors import MeshError, http_status

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""By HTTP status; others below 500 are the request's fault, and the rest is ours."""


def error_document(error: MeshError) -> dict[str, object]:
    """The body of a MeshError."""
    return refusal_document(http_status(error), error.message)


def refusal_document(status: int, message: str) -> dict[str, object]:
    """The body of a refusal with this HTTP status."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    request_id = telemetry.current_request_id.get()
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}
