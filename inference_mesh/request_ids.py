"""The id of a request: the caller's own if it is fit to be logged, else one of ours."""

from __future__ import annotations

import uuid

from inference_mesh.errors import InvalidInputError

MAX_LENGTH = 128


def request_id_from(value: str | None) -> str:
    """The caller's id unchanged, or a new one where there is none.

    Raises InvalidInputError unless it is at most 128 printable ASCII characters, no space.
    """
    if not value:
        return uuid.uuid4().hex
    if len(value) > MAX_LENGTH or not all("!" <= character <= "~" for character in value):
        raise InvalidInputError(
            f"request id: allowed are 1 to {MAX_LENGTH} printable ASCII characters without spaces"
        )
    return value
