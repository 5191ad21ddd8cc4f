"""Bodies of which the beginning is JSON and the rest are tensors as bytes. Pure.

Source: Triton's binary tensor data extension; the header tells how long the JSON is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference_mesh.errors import InvalidInputError

HEADER = "inference-header-content-length"
MEDIA_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class Body:
    """json: what is JSON of it, empty = none. tensors: what follows it."""

    json: bytes
    tensors: bytes


def body_of(data: bytes, header: str | None) -> Body:
    """The two parts of a body. header: the value of `HEADER`; None = it is all JSON.

    Raises InvalidInputError if the header is no length, or a longer one than the body's.
    """
    if header is None:
        return Body(data, b"")
    if not (header.isascii() and header.isdecimal() and len(header) < 12) or int(header) > len(data):
        raise InvalidInputError(f"{HEADER}: must be a number of bytes, at most the body's {len(data)}")
    length = int(header)
    return Body(data[:length], data[length:])


def cut(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """The bytes of each tensor. Raises InvalidInputError unless the sizes make up the data."""
    if sum(sizes) != len(data):
        raise InvalidInputError(
            f"binary_data_size: together they are {sum(sizes)} bytes; after the JSON come {len(data)}"
        )
    parts, at = [], 0
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    return parts
