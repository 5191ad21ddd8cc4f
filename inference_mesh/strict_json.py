"""JSON as the mesh reads and writes it: strict, bounded in depth, fast.

orjson refuses NaN, Infinity and lone surrogates by itself. Duplicate keys: the last wins,
as in every JSON library that clients use.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from inference_mesh.errors import InvalidInputError

MAX_DEPTH = 64
FIRST_LOOK_BYTES = 4096
"""A bomb is deep from its beginning, and need not be read to its end."""

_STRING = re.compile(rb'"(?:[^"\\]+|\\.?)*+(?:"|\Z)', re.DOTALL)
"""One JSON string, or the open rest of one; possessive, so that no input makes it slow."""

_NOT_BRACKETS = re.compile(rb"[^\[\]{}]+")


def loads(data: bytes, *, max_depth: int = MAX_DEPTH) -> Any:
    """The document. Raises InvalidInputError if it is not JSON or nested too deeply."""
    if _may_exceed_depth(data, max_depth) and (
        _exceeds_depth(data[:FIRST_LOOK_BYTES], max_depth) or _exceeds_depth(data, max_depth)
    ):
        raise InvalidInputError(f"JSON is nested too deeply; allowed are {max_depth} levels")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(
            f"not valid JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from None


def dumps(document: object) -> bytes:
    """The document as JSON; numpy arrays become lists. Raises TypeError on foreign types."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _may_exceed_depth(data: bytes, max_depth: int) -> bool:
    return data.count(b"[") + data.count(b"{") > max_depth


def _exceeds_depth(data: bytes, max_depth: int) -> bool:
    """Whether brackets are nested deeper, those inside strings left out."""
    depth = 0
    for bracket in _NOT_BRACKETS.sub(b"", _STRING.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        if depth > max_depth:
            return True
    return False
