"""What became of one call of a load."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """What a call told of itself: tokens of its input and its answer; 0 = it told nothing."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """One call. All times in seconds of `time.perf_counter()`.

    due_s: when it should have been sent: where calls come at a rate, a late start counts as
    waiting, since a user would have waited. first_s: when the first piece came; None = it did not.
    error: name of the status, or of the failure; empty = it was answered.
    """

    due_s: float
    started_s: float
    ended_s: float
    first_s: float | None = None
    answered: Answered = dataclasses.field(default_factory=Answered)
    error: str = ""

    @property
    def latency_s(self) -> float:
        """From when it was due to its end."""
        return self.ended_s - self.due_s

    @property
    def first_token_s(self) -> float | None:
        """From when it was due to its first piece."""
        return None if self.first_s is None else self.first_s - self.due_s

    @property
    def per_token_s(self) -> float | None:
        """Mean time between two tokens after the first; None if there were none."""
        later = self.answered.completion_tokens - 1
        return None if self.first_s is None or later < 1 else (self.ended_s - self.first_s) / later
