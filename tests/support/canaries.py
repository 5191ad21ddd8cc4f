"""What must be in no log, no span and on no page of metrics, and how it is looked for.

Owns the signs: every API key and every token (JWT) by their form, and a mark that tests put
into what they send as a user's text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

MARK = "canary7c1f"
"""Stands in prompts, texts, stop texts and wrong credentials."""

SIGNS = {
    "a user's text": re.compile(MARK, re.IGNORECASE),
    "an API key": re.compile(r"mesh_[a-z0-9]{8}_[A-Za-z0-9_-]{43}"),
    "a token": re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}"),
}
AROUND = 60
"""Characters before a find that say where it is."""


class Leak(NamedTuple):
    """One find. where: which log or page; line: from 1 on; before: what stands before it."""

    what: str
    where: str
    line: int
    before: str


def marked(text: str) -> str:
    """A user's text that can be found again."""
    return f"{text} {MARK}"


def leaks_in(where: str, text: str) -> list[Leak]:
    """Every canary of a text; the canary itself is not repeated."""
    return [
        Leak(what, where, text.count("\n", 0, found.start()) + 1, text[: found.start()][-AROUND:])
        for what, sign in SIGNS.items()
        for found in sign.finditer(text)
    ]


def check(texts: Iterable[tuple[str, str]]) -> None:
    """Fail if any of these texts, each with its name, holds a canary."""
    found = [leak for where, text in texts for leak in leaks_in(where, text)]
    assert not found, "\n".join(str(leak) for leak in found[:10])
