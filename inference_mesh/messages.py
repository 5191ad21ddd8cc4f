"""Messages read from the bytes that arrived, with a typed error if they are none."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from inference_mesh.errors import InvalidInputError

M = TypeVar("M", bound=Message)


def parsed(kind: type[M], message: bytes) -> M:
    """The message of the bytes. Raises InvalidInputError if they are none.

    Handlers parse themselves: a deserialiser that fails reaches the client as UNKNOWN.
    """
    try:
        return kind.FromString(message)
    except DecodeError:
        raise InvalidInputError("malformed request") from None


def serialized(message: Message) -> bytes:
    """The message's bytes."""
    return message.SerializeToString()
