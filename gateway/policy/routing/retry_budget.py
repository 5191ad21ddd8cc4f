"""How many retries may run at once, so that they never multiply an overload.

Source: Envoy's retry budget, 20 % of the active calls and at least 3.
"""

from __future__ import annotations

MAX_ATTEMPTS = 3
RETRY_SHARE = 0.2
MIN_RETRIES = 3


def retries_allowed(active_calls: int) -> int:
    """Retries that may run beside so many active calls."""
    return max(MIN_RETRIES, int(active_calls * RETRY_SHARE))


class RetryBudget:
    """Owns the counts of active calls and of running retries."""

    def __init__(self) -> None:
        self.active_calls = 0
        self.running_retries = 0

    def start_call(self) -> None:
        """Count a call in."""
        self.active_calls += 1

    def end_call(self, retries: int) -> None:
        """Count a call and the retries that it took from the budget out."""
        self.active_calls -= 1
        self.running_retries -= retries

    def take(self) -> bool:
        """Take one retry; false if the budget is spent. `end_call` gives it back."""
        if self.running_retries >= retries_allowed(self.active_calls):
            return False
        self.running_retries += 1
        return True
