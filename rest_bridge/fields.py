"""The fields of a JSON object, read by name; a wrong one is named with what is allowed.

Owns the checks that any dialect makes of a field. A field that is null counts as absent, as
clients send null for what they leave open.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from inference_mesh.errors import InvalidInputError


class InvalidFieldError(InvalidInputError):
    """A field is wrong; `param` is its path, such as "messages[0].role"."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class UnsupportedFieldError(InvalidFieldError):
    """A field asks for what this mesh cannot do. A wrong request and not 501, which clients retry."""


class Fields:
    """One JSON object of a request. Every reader raises InvalidFieldError."""

    def __init__(self, document: Mapping[str, Any], path: str = "") -> None:
        """path: where in the body the object stands; empty = it is the body."""
        self._document = document
        self._path = path

    def __contains__(self, name: str) -> bool:
        """True if the field is there and not null."""
        return self._document.get(name) is not None

    def __getitem__(self, name: str) -> Any:
        """The value as it stands; None if it is absent."""
        return self._document.get(name)

    def names(self) -> Iterator[str]:
        """The names of the fields that are there."""
        return iter(self._document)

    def where(self, name: str) -> str:
        """The path of a field."""
        return f"{self._path}.{name}" if self._path else name

    def wrong(self, name: str, must: str) -> InvalidFieldError:
        """The error of a field that must be something else."""
        where = self.where(name)
        return InvalidFieldError(f"'{where[:128]}' must be {must}", where[:128])

    def unsupported(self, name: str, why: str) -> UnsupportedFieldError:
        """The error of a field that asks for what cannot be done."""
        where = self.where(name)
        return UnsupportedFieldError(f"'{where[:128]}' {why}", where[:128])

    def text(self, name: str, default: str = "", *, longest: int | None = None) -> str:
        """A text of at most so many characters."""
        value = self[name]
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(name, "a text")
        if longest is not None and len(value) > longest:
            raise self.wrong(name, f"a text of at most {longest} characters")
        return value

    def required_text(self, name: str, *, longest: int | None = None) -> str:
        """A text that is there and not empty."""
        value = self.text(name, longest=longest)
        if not value:
            raise self.wrong(name, "a text that is not empty")
        return value

    def integer(self, name: str, low: int, high: int) -> int | None:
        """An integer of a range; None if it is absent. 3.0 is an integer, as in JSON."""
        value = self[name]
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise self.wrong(name, f"an integer from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number of a range; None if it is absent."""
        value = self[name]
        if value is None:
            return None
        if type(value) not in (int, float) or not (math.isfinite(value) and low <= value <= high):
            raise self.wrong(name, f"a number from {low:g} to {high:g}")
        return float(value)

    def flag(self, name: str) -> bool:
        """true or false; false if it is absent."""
        value = self[name]
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def choice(self, name: str, allowed: Sequence[str], default: str) -> str:
        """One of some words."""
        value = self[name]
        if value is None:
            return default
        if value not in allowed:
            raise self.wrong(name, "one of " + ", ".join(f"'{word}'" for word in allowed))
        return str(value)

    def items(self, name: str, *, most: int | None = None) -> list[Any]:
        """A list; empty if it is absent."""
        value = self[name]
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "a list")
        if most is not None and len(value) > most:
            raise self.wrong(name, f"a list of at most {most} elements")
        return value

    def nested(self, name: str) -> Fields | None:
        """An object; None if it is absent."""
        value = self[name]
        if value is None:
            return None
        return self._object(value, name)

    def required_nested(self, name: str) -> Fields:
        """An object that is there."""
        nested = self.nested(name)
        if nested is None:
            raise self.wrong(name, "an object")
        return nested

    def objects(self, name: str, *, most: int | None = None) -> list[Fields]:
        """A list of objects; empty if it is absent."""
        return [
            self._object(value, f"{name}[{index}]") for index, value in enumerate(self.items(name, most=most))
        ]

    def _object(self, value: object, name: str) -> Fields:
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return Fields(value, self.where(name))
