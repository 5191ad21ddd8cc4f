"""How many prompt tokens fit into a step, by what earlier steps took.

Owns the estimate. A step cannot be left half-way by one of several jobs, so its length is how
long a newcomer, a neighbour's next token and a freed slot wait. Pure: seconds are passed in.
"""

from __future__ import annotations

MIN_TOKENS = 32
"""Fewer in a step would cost more in reading the weights than they save in waiting."""

_WEIGHT = 0.3
"""Of the newest step in the estimate."""


class PrefillPace:
    """The pace of one model in one process."""

    def __init__(self) -> None:
        self._seconds_per_token = 0.0

    def observe(self, tokens: int, seconds: float) -> None:
        """Note a step with so many tokens; short ones say nothing of prompts and are left out."""
        if tokens < MIN_TOKENS:
            return
        measured = seconds / tokens
        is_first = self._seconds_per_token == 0
        self._seconds_per_token += (1.0 if is_first else _WEIGHT) * (measured - self._seconds_per_token)

    def tokens_within(self, seconds: float, most: int) -> int:
        """How many tokens a step of this length computes, at most `most`."""
        if self._seconds_per_token == 0:
            return most
        return min(most, max(MIN_TOKENS, int(seconds / self._seconds_per_token)))
