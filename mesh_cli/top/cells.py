"""Names and numbers as they stand in a cell: short, and harmless to a terminal."""

from __future__ import annotations

MAX_NAME = 40
NONE = "-"


def printable(text: str, limit: int = MAX_NAME) -> str:
    """At most `limit` characters of a text, and none that steers a terminal or turns its direction."""
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in cut)


def duration(seconds: float | None) -> str:
    """A time in at most six characters, e.g. "0.35ms", "12ms", "1.2s"."""
    if seconds is None:
        return NONE
    milliseconds = seconds * 1000
    if milliseconds < 999.5:
        digits = 2 if milliseconds < 1 else 1 if milliseconds < 9.95 else 0
        return f"{milliseconds:.{digits}f}ms"
    return f"{seconds:.{1 if seconds < 99.95 else 0}f}s"


def amount(number: float | None) -> str:
    """A rate or a count in at most five characters up to 999 million, e.g. "0", "0.25", "12.5", "34k"."""
    if number is None:
        return NONE
    for factor, unit in ((1, ""), (1e3, "k"), (1e6, "M")):
        scaled = number / factor
        if scaled < 999.5 or unit == "M":
            return f"{_digits(scaled)}{unit}"
    return NONE


def whole(number: float | None) -> str:
    """A count of things, e.g. "3"."""
    return NONE if number is None else amount(float(round(number)))


def share(ratio: float | None) -> str:
    """A ratio from 0 to 1 as percent."""
    return NONE if ratio is None else f"{ratio * 100:.0f}%"


def part_of(part: float | None, of_all: float | None) -> str:
    """How many of how many, e.g. "1/2"."""
    return NONE if part is None or of_all is None else f"{whole(part)}/{whole(of_all)}"


def _digits(number: float) -> str:
    if number == round(number):
        return f"{number:.0f}"
    return f"{number:.{2 if number < 0.995 else 1 if number < 99.95 else 0}f}"
