"""How many retries there may be, so that they never multiply an overload. Pure.

Two limits. At once: 20 % of the active calls and at least 3 (Envoy's retry budget). Over
time: each call brings a fifth of a retry (Finagle's), so that quick failures, which are never
many at once, are not all tried again.
"""

from __future__ import annotations

MAX_ATTEMPTS = 3
RETRY_SHARE = 0.2
MIN_RETRIES = 3
CALLS_PER_RETRY = 5
MAX_SAVED_RETRIES = 100
"""What quiet times save up for the moment in which a replica goes away."""


def retries_allowed(active_calls: int) -> int:
    """Retries that may run beside so many active calls."""
    return max(MIN_RETRIES, int(active_calls * RETRY_SHARE))


class RetryBudget:
    """Owns the counts of active calls, of running retries, and of what is saved."""

    def __init__(self) -> None:
        self.active_calls = 0
        self.running_retries = 0
        self._saved = MIN_RETRIES * CALLS_PER_RETRY

    def start_call(self) -> None:
        """Count a call in."""
        self.active_calls += 1
        self._saved = min(self._saved + 1, MAX_SAVED_RETRIES * CALLS_PER_RETRY)

    def end_call(self, retries: int) -> None:
        """Count a call and the retries that it took from the budget out."""
        self.active_calls -= 1
        self.running_retries -= retries

    def take(self) -> bool:
        """Take one retry; false if the budget is spent. `end_call` ends it."""
        if self._saved < CALLS_PER_RETRY or self.running_retries >= retries_allowed(self.active_calls):
            return False
        self._saved -= CALLS_PER_RETRY
        self.running_retries += 1
        return True
