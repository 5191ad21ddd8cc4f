"""The form of a refusal: a 4xx with {"error": "…"}."""

from __future__ import annotations

import httpx

from conformance.checks import expect
from conformance.http_answers import document_of, expect_refused, member


def expect_error(response: httpx.Response) -> None:
    """Raises BreachError unless an answer is a 4xx whose JSON has the text `error`."""
    expect_refused(response)
    expect(member(document_of(response), "error", str), "'error' is empty")
