"""Finds where a JSON object or list ends, as its text comes in. Pure.

Owns brackets and strings only: whether it is valid JSON is for whoever reads the whole of it.
"""

from __future__ import annotations

import re

_OUTSIDE = re.compile(r'["\[\]{}]')
_INSIDE = re.compile(r'["\\]')


class JsonEnd:
    """Owns how deep the text so far is nested."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_string = False

    def find(self, text: str, start: int) -> tuple[int, bool]:
        """Reads on from `start`: the position behind the end, and True; or how far it read, and False."""
        at = start
        while at < len(text):
            found = (_INSIDE if self._is_string else _OUTSIDE).search(text, at)
            if found is None:
                return len(text), False
            sign, behind = found.group(), found.end()
            if sign == "\\":
                if behind == len(text):
                    return found.start(), False
                behind += 1
            elif sign == '"':
                self._is_string = not self._is_string
            else:
                self._depth += 1 if sign in "[{" else -1
                if self._depth <= 0:
                    return behind, True
            at = behind
        return at, False
