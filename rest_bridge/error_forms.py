"""In which form a path's errors are answered: each dialect has its own.

Owns the choice by path and the writing. The status, the headers and the hint when to come back
are the same in every form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inference_mesh import http_errors, strict_json
from inference_mesh.errors import MeshError
from rest_bridge.anthropic import errors as anthropic
from rest_bridge.open_inference import errors as open_inference
from rest_bridge.openai import errors as openai

Answer = tuple[int, http_errors.Headers, bytes]


@dataclass(frozen=True)
class ErrorForm:
    """How one dialect writes an error; each function gives a JSON document."""

    of_error: Callable[[MeshError], object]
    of_refusal: Callable[[int, str], object]


OPENAI = ErrorForm(openai.error_document, openai.refusal_document)
ANTHROPIC = ErrorForm(anthropic.error_document, anthropic.refusal_document)
OPEN_INFERENCE = ErrorForm(open_inference.error_document, open_inference.refusal_document)
FORMS = {"/v1/messages": ANTHROPIC, "/v1/": OPENAI, "/v2": OPEN_INFERENCE}
"""By the beginning of the path, the longer one first; every other path has the platform's own form."""


def answer_of_error(path: str, error: MeshError, request_id: str) -> Answer:
    """Status, headers and body of a MeshError on this path."""
    answer = http_errors.answer_of_error(error, request_id)
    form = _form_of(path)
    return answer if form is None else _rewritten(answer, form.of_error(error))


def answer_of_status(path: str, status: int, message: str, request_id: str) -> Answer:
    """Status, headers and body of a refusal by HTTP itself on this path."""
    answer = http_errors.answer_of_status(status, message, request_id)
    form = _form_of(path)
    return answer if form is None else _rewritten(answer, form.of_refusal(status, message))


def _form_of(path: str) -> ErrorForm | None:
    return next((form for beginning, form in FORMS.items() if path.startswith(beginning)), None)


def _rewritten(answer: Answer, document: object) -> Answer:
    status, headers, _ = answer
    body = strict_json.dumps(document)
    kept = [header for header in headers if header[0] != b"content-length"]
    return status, [*kept, (b"content-length", str(len(body)).encode())], body
