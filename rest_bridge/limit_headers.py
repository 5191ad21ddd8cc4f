"""How the caller's limits stand, as HTTP headers. Pure.

Owns two forms: OpenAI's `x-ratelimit-*`, and `RateLimit-Policy` and `RateLimit` of
draft-ietf-httpapi-ratelimit-headers-10 (structured fields, RFC 9651). Does not own the hint
when to come back: that is an error's, and `http_errors` writes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from inference_mesh.limit_standing import LimitStanding

OPENAI_KINDS = ("requests", "tokens")
QUOTA_UNITS = {"requests": "requests", "concurrency": "concurrent-requests", "tokens": "tokens"}
LARGEST_INTEGER = 10**15 - 1
"""Of a structured field: RFC 9651, 3.3.1."""

Headers = list[tuple[bytes, bytes]]


def limit_headers(standings: Sequence[LimitStanding]) -> Headers:
    """The headers for these standings; none if there are none."""
    if not standings:
        return []
    pairs = [pair for kind in OPENAI_KINDS for pair in _openai(kind, standings)]
    pairs.append(("ratelimit-policy", ", ".join(_policy(one) for one in standings)))
    pairs.append(("ratelimit", ", ".join(_standing(one) for one in standings)))
    return [(name.encode(), value.encode()) for name, value in pairs]


def duration_text(seconds: float) -> str:
    """Seconds as OpenAI writes them: "20ms", "1.5s", "6m0s", "1h0m0s"; never less than what is meant."""
    milliseconds = math.ceil(round(seconds * 1000, 3))
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    text = f"{rest / 1000:g}s"
    if not minutes:
        return text
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"


def _openai(kind: str, standings: Sequence[LimitStanding]) -> list[tuple[str, str]]:
    """The three headers of a kind: OpenAI has one limit of each, so the one with the least left stands."""
    of_kind = [one for one in standings if one.kind == kind]
    if not of_kind:
        return []
    tightest = min(of_kind, key=lambda one: (one.remaining, -one.reset_s))
    return [
        (f"x-ratelimit-limit-{kind}", str(_integer(tightest.limit))),
        (f"x-ratelimit-remaining-{kind}", str(_integer(tightest.remaining))),
        (f"x-ratelimit-reset-{kind}", duration_text(tightest.reset_s)),
    ]


def _policy(one: LimitStanding) -> str:
    """An item of RateLimit-Policy. A window below a second has no integer, and is not told."""
    window = f";w={_integer(math.ceil(one.window_s))}" if one.window_s >= 1 else ""
    unit = "" if one.kind == "requests" else f';qu="{QUOTA_UNITS[one.kind]}"'
    return f"{_string(one.name)};q={_integer(one.limit)}{unit}{window}"


def _standing(one: LimitStanding) -> str:
    """An item of RateLimit. `degraded` is our own parameter: the shared ledger cannot be asked."""
    reset = f";t={_integer(math.ceil(one.reset_s))}" if one.window_s else ""
    return f"{_string(one.name)};r={_integer(one.remaining)}{reset}{';degraded' if one.is_degraded else ''}"


def _integer(value: float) -> int:
    return min(math.floor(value), LARGEST_INTEGER)


def _string(text: str) -> str:
    """A string of a structured field, which holds printable ASCII only."""
    printable = "".join(char if " " <= char <= "~" else "?" for char in text)
    escaped = printable.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
