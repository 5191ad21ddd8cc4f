"""GBNF expressions for the integers of a range.

Owns that one conversion, digit by digit. Numbers have at most 15 digits.
"""

from __future__ import annotations

MAX_DIGITS = 15
LARGEST = 10**MAX_DIGITS - 1


def integer_between(low: int | None, high: int | None) -> str:
    """An expression for every integer from `low` to `high`; None = as far as 15 digits go."""
    first = -LARGEST if low is None else low
    last = LARGEST if high is None else high
    options = []
    if first < 0:
        options += [f'"-" {option}' for option in _natural(max(1, -last), -first)]
    if last >= 0:
        options += _natural(max(0, first), last)
    return " | ".join(options)


def _natural(low: int, high: int) -> list[str]:
    """Expressions for the numbers from low to high, both at least 0, one for each length."""
    options = []
    for digits in range(len(str(low)), len(str(high)) + 1):
        smallest = 10 ** (digits - 1) if digits > 1 else 0
        first, last = max(low, smallest), min(high, 10**digits - 1)
        if first <= last:
            options.append(f"({_same_length(str(first), str(last))})")
    return options


def _same_length(low: str, high: str) -> str:
    """Numbers between two of the same length, leading zeros included."""
    if not low:
        return '""'
    rest = len(low) - 1
    if set(low) == {"0"} and set(high) == {"9"}:
        return f"[0-9]{{{rest + 1}}}"
    if not rest:
        return f"[{low}-{high}]"
    if low[0] == high[0]:
        return f'"{low[0]}" ({_same_length(low[1:], high[1:])})'
    options = [
        f'"{low[0]}" ({_same_length(low[1:], "9" * rest)})',
        f'"{high[0]}" ({_same_length("0" * rest, high[1:])})',
    ]
    if int(high[0]) - int(low[0]) > 1:
        options.append(f"[{int(low[0]) + 1}-{int(high[0]) - 1}] [0-9]{{{rest}}}")
    return " | ".join(options)
