"""The fields of a JSON payload, read with their types checked.

Owns the checks of types; each raises InvalidInputError naming the field and what is allowed. What
the fields mean is `json_payload`'s and `json_generate`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from inference_mesh.errors import InvalidInputError

Document = Mapping[str, Any]

_KIND_NAMES: dict[type, str] = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}


def refuse_unknown(document: Document, allowed: tuple[str, ...], where: str = "payload") -> None:
    """Raises InvalidInputError for a key that is none of those. where: what the document is."""
    for key in document:
        if key not in allowed:
            raise InvalidInputError(f"{where}: unknown key '{key[:64]}'; allowed are {', '.join(allowed)}")


def value_of(document: Document, name: str, kind: type, default: Any, where: str = "payload") -> Any:
    """A field of this type; the default where it is absent or null."""
    value = document.get(name)
    if value is None:
        return default
    allowed = (int, float) if kind is float else (kind,)
    if type(value) not in allowed:
        raise InvalidInputError(f"{where}: '{name}' must be {_KIND_NAMES[kind]}")
    return value


def texts_of(document: Document, name: str) -> list[str]:
    """A list of texts, or one of them."""
    value = document.get(name)
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InvalidInputError(f"payload: '{name}' must be a list of texts")
    return value


def numbers_of(document: Document, name: str) -> list[int]:
    """A list of integers."""
    value = document.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(type(number) is int for number in value):
        raise InvalidInputError(f"payload: '{name}' must be a list of integers")
    return value


def objects_of(document: Document, name: str, form: str, where: str = "payload") -> list[Document]:
    """A list of objects. form: how one looks, for the error."""
    value = document.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise InvalidInputError(f"{where}: '{name}' must be a list of {form}")
    return value


def json_text_of(document: Document, name: str, where: str = "payload") -> str:
    """An object as JSON text, or the text itself; empty where it is absent or null."""
    value = document.get(name)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return json.dumps(value)
    raise InvalidInputError(f"{where}: '{name}' must be an object")
