"""Bodies of requests as JSON documents, and answers from them; heavy ones off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from inference_mesh import strict_json
from inference_mesh.errors import InvalidInputError
from rest_bridge.problem import HttpRefusalError

LARGE_BYTES = 128 * 1024
"""From here on conversion may take more than some milliseconds, so a thread does it."""

P = ParamSpec("P")
T = TypeVar("T")


async def read_object(request: Request) -> tuple[dict[str, object], int]:
    """The JSON object in the body, and the body's size in bytes.

    Raises HttpRefusalError (415) for another content type, and InvalidInputError.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise HttpRefusalError(415, "the content type must be application/json")
    body = await request.body()
    document = await off_loop_if_large(len(body), strict_json.loads, body)
    if not isinstance(document, dict):
        raise InvalidInputError("the body must be a JSON object")
    return document, len(body)


async def off_loop_if_large(size_bytes: int, convert: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a conversion of so many bytes."""
    if size_bytes < LARGE_BYTES:
        return convert(*args, **kwargs)
    return await asyncio.to_thread(convert, *args, **kwargs)


def answer(document: object) -> Response:
    """A 200 with a JSON document."""
    return Response(strict_json.dumps(document), media_type="application/json")
