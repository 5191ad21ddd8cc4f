"""Errors in the form of the Open Inference Protocol over REST: {"error": "…"}. Pure."""

from __future__ import annotations

from inference_mesh.errors import MeshError


def error_document(error: MeshError) -> dict[str, object]:
    """The body of a MeshError."""
    return {"error": error.message}


def refusal_document(_status: int, message: str) -> dict[str, object]:
    """The body of a refusal by HTTP itself."""
    return {"error": message}
