"""How a caller's limits stand, as text that metadata can carry (`x-mesh-limits`).

Owns the form: standings apart by ",", fields of one by ";", the name first:
`tenant:acme:tokens;k=tokens;q=1000;r=640;w=60;t=12.500` with kind, limit (quota), remaining,
window and seconds to the reset, and a bare `d` where it is degraded. Knows no HTTP.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote

KINDS = ("requests", "concurrency", "tokens")
MAX_STANDINGS = 16
MAX_LENGTH = 4096
MAX_CONSTANTS = 16_384

_PLAIN_NAME = re.compile(r"[A-Za-z0-9:/@._-]{1,200}")


class LimitStanding(NamedTuple):
    """One limit and how much of it is left. A tuple: a call has up to a dozen, and they are made fast.

    name: which, e.g. "tenant:acme:tokens". kind: one of KINDS. limit: how much there is in a
    window; remaining: how much of it is left. window_s: 0 for concurrency. reset_s: until all
    of it is there again. is_degraded: the shared ledger cannot be asked, and the declared
    policy of the rule applies.
    """

    name: str
    kind: str
    limit: float
    remaining: float
    window_s: float
    reset_s: float
    is_degraded: bool = False


def encode(standings: Sequence[LimitStanding]) -> str:
    """The standings as printable ASCII without blanks, at most MAX_STANDINGS of them."""
    return ",".join([_encoded(one) for one in standings[:MAX_STANDINGS]])


def tightest(standings: Sequence[LimitStanding]) -> list[LimitStanding]:
    """Of each kind the one with the least left, the later reset if alike: what a caller meets first."""
    found: dict[str, LimitStanding] = {}
    for one in standings:
        best = found.get(one.kind)
        if (
            best is None
            or one.remaining < best.remaining
            or (one.remaining == best.remaining and one.reset_s > best.reset_s)
        ):
            found[one.kind] = one
    return list(found.values())


def decode(text: str | None) -> tuple[LimitStanding, ...]:
    """The standings of a text, in its order. What is not of the form is left out; nothing is raised."""
    if not text or len(text) > MAX_LENGTH:
        return ()
    found = (_decoded(part) for part in text.split(",", MAX_STANDINGS)[:MAX_STANDINGS])
    return tuple(standing for standing in found if standing is not None)


def _encoded(one: LimitStanding) -> str:
    name, kind, limit, remaining, window_s, reset_s, is_degraded = one
    head, middle = _constant(name, kind, limit, window_s)
    left, reset = _text(remaining), f"{reset_s:.3f}" if reset_s else "0"
    return head + left + middle + reset + ";d" if is_degraded else head + left + middle + reset


def _text(number: float) -> str:
    """A whole number is written five times as fast as a float."""
    whole = int(number)
    return str(whole) if whole == number else repr(number)


@functools.lru_cache(maxsize=MAX_CONSTANTS)
def _constant(name: str, kind: str, limit: float, window_s: float) -> tuple[str, str]:
    """What is the same in every text of a limit: before what is left, and before the reset."""
    plain = name if _PLAIN_NAME.fullmatch(name) else quote(name, safe="")
    return f"{plain};k={kind};q={_text(limit)};r=", f";w={_text(window_s)};t="


def _decoded(part: str) -> LimitStanding | None:
    name, *fields = part.strip().split(";")
    values = dict(field.partition("=")[::2] for field in fields)
    kind = values.get("k")
    numbers = [_number(values.get(key)) for key in "qrwt"]
    if not name or kind not in KINDS or None in numbers:
        return None
    limit, remaining, window_s, reset_s = (number or 0.0 for number in numbers)
    return LimitStanding(unquote(name), kind, limit, remaining, window_s, reset_s, "d" in values)


def _number(text: str | None) -> float | None:
    """A finite number that is not negative; None if the text is none."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
