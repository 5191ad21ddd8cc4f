"""How many prompt tokens fit into a step, by what earlier steps took.

Owns the estimate. A step cannot be left half-way by one of several jobs, so its length is how
long a newcomer, a neighbour's next token and a freed slot wait. Pure: seconds are passed in.
"""

from __future__ import annotations

MIN_TOKENS = 8
"""Fewer in a step would cost more in reading the weights than they save in waiting."""

BESIDE_PROMPTS = 2.0
"""How many times as long as without prompts a step may take that has next tokens of others in it."""

_WEIGHT = 0.3
"""Of the newest step in the estimate."""


class PrefillPace:
    """The pace of one model in one process."""

    def __init__(self) -> None:
        self._seconds_per_token = 0.0
        self._decode_s = 0.0

    def observe_decode(self, seconds: float) -> None:
        """Note a step without prompts."""
        is_first = self._decode_s == 0
        self._decode_s += (1.0 if is_first else _WEIGHT) * (seconds - self._decode_s)

    def shared_step_s(self, most_s: float) -> float:
        """How long a step may take that others' next tokens wait for, at most `most_s`."""
        return min(most_s, BESIDE_PROMPTS * self._decode_s) if self._decode_s else most_s

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
