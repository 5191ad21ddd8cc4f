"""What a PromQL expression names: its series with their matchers, and the labels that it groups by.

A reader of names, not a parser: promtool says whether an expression is right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

STRING = r'"(?:[^"\\]|\\.)*"'
GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
LABEL_REPLACE = re.compile(rf"\blabel_replace\b|,\s*{STRING}(?=\s*[,)])")
REPLACED = re.compile(rf"\blabel_replace\(.*?,\s*({STRING}),\s*{STRING},\s*{STRING},\s*{STRING}\)", re.DOTALL)
RANGE = re.compile(r"\[[^\]]*\]")
SELECTOR = re.compile(rf"(?<![\w:.$\"])([a-zA-Z_:][\w:]*)\s*(\{{(?:[^{{}}\"]|{STRING})*\}})?", re.DOTALL)
MATCHER = re.compile(rf"(\w+)\s*(?:=~|!~|!=|=)\s*({STRING})")
WORDS = {
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
}


class Selector(NamedTuple):
    """A series that is read. matchers: label and value, which may be a pattern."""

    name: str
    matchers: tuple[tuple[str, str], ...]


def selectors(expr: str) -> Iterator[Selector]:
    """The series of an expression."""
    text = GROUPING.sub(" ", LABEL_REPLACE.sub(" ", RANGE.sub(" ", expr)))
    for found in SELECTOR.finditer(text):
        name, braces = found[1], found[2] or ""
        if name not in WORDS and not _is_function(text, found.end(1)):
            matchers = tuple((label, value[1:-1]) for label, value in MATCHER.findall(braces))
            yield Selector(name, matchers)


def grouped_labels(expr: str) -> set[str]:
    """The labels that an expression groups or joins by."""
    return {
        label.strip() for _, labels in GROUPING.findall(expr) for label in labels.split(",") if label.strip()
    }


def made_labels(expr: str) -> set[str]:
    """The labels that an expression adds."""
    return {label[1:-1] for label in REPLACED.findall(expr)}


def _is_function(text: str, end: int) -> bool:
    return text[end:].lstrip().startswith("(")
