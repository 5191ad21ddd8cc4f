"""Finds fields in a protobuf message without parsing it. Pure.

For what the gateway reads of a message that it passes on unchanged. A message that is not well
formed just ends early: its worker will say so.
Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10


class Span(NamedTuple):
    """One field. tag_start: where it begins; start and end: its value."""

    number: int
    wire_type: int
    tag_start: int
    start: int
    end: int


def fields(message: bytes, start: int = 0, end: int | None = None) -> Iterator[Span]:
    """The fields of a part of a message, in their order; ends where the part is malformed."""
    limit = len(message) if end is None else end
    position = start
    while position < limit:
        tag, behind_tag = message[position], position + 1
        if tag >= 0x80:
            tag, behind_tag = _varint(message, position, limit)
        value_start, value_end = _value(message, tag & 7, behind_tag, limit)
        if behind_tag < 0 or value_end < 0 or value_end > limit:
            return
        yield Span(tag >> 3, tag & 7, position, value_start, value_end)
        position = value_end


def part(message: bytes, number: int, within: Span | None = None) -> Span | None:
    """The first length-delimited field of a number, in a message or in a part of it."""
    start, end = (0, None) if within is None else (within.start, within.end)
    for span in fields(message, start, end):
        if span.number == number and span.wire_type == LENGTH_DELIMITED:
            return span
    return None


def _value(message: bytes, wire_type: int, position: int, limit: int) -> tuple[int, int]:
    """Where a value begins and ends; the end is -1 if there is none."""
    if position < 0:
        return position, -1
    if wire_type == LENGTH_DELIMITED:
        length, start = _varint(message, position, limit)
        return start, -1 if start < 0 else start + length
    if wire_type == VARINT:
        return position, _varint(message, position, limit)[1]
    if wire_type == FIXED64:
        return position, position + 8
    return position, position + 4 if wire_type == FIXED32 else -1


def _varint(message: bytes, position: int, limit: int) -> tuple[int, int]:
    """The number at a position, and the position behind it; -1 if there is none."""
    if position < limit and message[position] < 0x80:
        return message[position], position + 1
    value = shift = 0
    for index in range(position, min(position + MAX_VARINT_BYTES, limit)):
        byte = message[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, index + 1
        shift += 7
    return 0, -1
