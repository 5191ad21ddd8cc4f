"""Reading what an HTTP server answered: its status, its JSON, and the members that JSON must have."""

from __future__ import annotations

from typing import Any, TypeVar

import httpx

from conformance.checks import BreachError, expect, shown

T = TypeVar("T")
Json = dict[str, Any]


def expect_status(response: httpx.Response, *wanted: int) -> None:
    """Raises BreachError unless the status is one of those; the message has the beginning of the body."""
    names = " or ".join(str(status) for status in wanted)
    expect(
        response.status_code in wanted,
        f"status {response.status_code}, body {shown(response.text)}; {names} was expected",
    )


def expect_refused(response: httpx.Response) -> None:
    """Raises BreachError unless the status is a 4xx."""
    expect(
        400 <= response.status_code < 500,
        f"status {response.status_code}, body {shown(response.text)}; a 4xx was expected",
    )


def is_json(response: httpx.Response) -> bool:
    """Whether an answer says that it is JSON."""
    return str(response.headers.get("content-type", "")).startswith("application/json")


def document_of(response: httpx.Response) -> Json:
    """The body as a JSON object. Raises BreachError if it is none."""
    try:
        document = response.json()
    except ValueError:
        raise BreachError(f"the body is no JSON: {shown(response.text)}") from None
    if not isinstance(document, dict):
        raise BreachError(f"the body is no JSON object: {shown(response.text)}")
    return document


def member(document: Json, name: str, kind: type[T]) -> T:
    """A member of a JSON object. Raises BreachError if it is missing or of another kind."""
    if name not in document:
        raise BreachError(f"there is no '{name}' among {shown(list(document))}")
    value = document[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise BreachError(f"'{name}' is {shown(value)}; a {kind.__name__} was expected")
    return value


async def send_with_key(
    http: httpx.AsyncClient, method: str, path: str, key: str | None, body: object = None
) -> httpx.Response:
    """The answer to a call with another key than the run's; None = with none. body: sent as JSON."""
    request = http.build_request(method, path, json=body)
    request.headers.pop("authorization", None)
    if key is not None:
        request.headers["authorization"] = f"Bearer {key}"
    return await http.send(request)
