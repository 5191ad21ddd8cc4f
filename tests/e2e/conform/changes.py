"""Changes to a field of a message, by its path, e.g. "usage.prompt_tokens"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Change = Callable[[Any], None]


def put(path: str, value: Any) -> Change:
    """Set the field to a value."""

    def change(message: Any) -> None:
        holder, last = _found(message, path)
        setattr(holder, last, value)

    return change


def clear(path: str) -> Change:
    """Take the field away."""

    def change(message: Any) -> None:
        holder, last = _found(message, path)
        holder.ClearField(last)

    return change


def _found(message: Any, path: str) -> tuple[Any, str]:
    *way, last = path.split(".")
    for name in way:
        message = getattr(message, name)
    return message, last
