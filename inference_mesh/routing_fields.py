"""The few fields that a relay reads of a request, without parsing the message.

Every inference request has the model in field 1, the version in field 2 and, but for
metadata requests, the caller's id in field 3. Owns the reading of those three, and where the
payload of a native request begins; the payload itself is the worker's to check.

Source: protobuf encoding, https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from typing import NamedTuple

from inference_mesh.errors import InvalidInputError

MODEL, VERSION, REQUEST_ID, PAYLOAD = 1, 2, 3, 4
MAX_FIELDS_READ = 16
"""Fields that are looked at; a hostile message may have millions of empty ones."""

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10
MAX_FIELD_NUMBER = (1 << 29) - 1


class RoutingFields(NamedTuple):
    """What routes a request; empty where the caller wrote nothing.

    payload_start: position of the first byte of field 4 behind its length; -1 = it was not seen.
    """

    model: str = ""
    version: str = ""
    request_id: str = ""
    payload_start: int = -1


def routing_fields(message: bytes) -> RoutingFields:
    """The leading fields of a request. Raises InvalidInputError if they are not protobuf.

    Reads on until model, version and id are past: the first higher field after the model ends
    it, as every encoder writes fields in order.
    """
    found: dict[int, str] = {}
    position, payload_start = 0, -1
    for _ in range(MAX_FIELDS_READ):
        if position >= len(message):
            break
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        if not 1 <= number <= MAX_FIELD_NUMBER:
            raise _malformed()
        if number == PAYLOAD and wire_type == LENGTH_DELIMITED:
            payload_start = _varint(message, position)[1]
        if number > REQUEST_ID and MODEL in found:
            break
        end = _end_of_value(message, position, wire_type)
        if number <= REQUEST_ID and wire_type == LENGTH_DELIMITED:
            _, start = _varint(message, position)
            found[number] = _text(message[start:end])
        position = end
    return RoutingFields(
        found.get(MODEL, ""), found.get(VERSION, ""), found.get(REQUEST_ID, ""), payload_start
    )


def _end_of_value(message: bytes, position: int, wire_type: int) -> int:
    if wire_type == VARINT:
        end = _varint(message, position)[1]
    elif wire_type == FIXED64:
        end = position + 8
    elif wire_type == FIXED32:
        end = position + 4
    elif wire_type == LENGTH_DELIMITED:
        length, start = _varint(message, position)
        end = start + length
    else:
        raise _malformed()
    if end > len(message):
        raise _malformed()
    return end


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """The number at a position, and the position behind it."""
    value = 0
    for index, byte in enumerate(message[position : position + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise _malformed()


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed() from None


def _malformed() -> InvalidInputError:
    return InvalidInputError("malformed request")
