"""Whether a call that failed is sent again, and when. Pure: the clock and the dice are passed in."""

from __future__ import annotations

import dataclasses

from inference_mesh.errors import MeshError, OverloadedError, QuotaError, UnavailableError

FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 5.0
JITTER = 0.2
"""Share of a backoff by which it is longer or shorter, so that callers who failed together part."""


@dataclasses.dataclass(frozen=True, slots=True)
class Retries:
    """How patient a client is.

    attempts: calls in all, at least 1. longest_wait_s: a server that asks for more is not waited for.
    A stream is only repeated before its first piece; one that breaks later goes on by the gateway's
    own means where it can.
    """

    attempts: int = 3
    longest_wait_s: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.longest_wait_s < 0:
            raise ValueError("attempts must be at least 1, longest_wait_s at least 0")

    def wait_s(self, error: MeshError, failed: int, left_s: float, draw: float) -> float | None:
        """Seconds until the next attempt, None if there is none.

        failed: attempts so far. left_s: until the deadline of the call, which spans all attempts.
        draw: a random number in [0, 1). The server's hint counts where it gives one. A limit of the
        caller's own without a hint would only be met again.
        """
        if failed >= self.attempts or not isinstance(error, UnavailableError | OverloadedError | QuotaError):
            return None
        if error.retry_after_s is not None:
            wait_s = error.retry_after_s
        elif isinstance(error, QuotaError):
            return None
        else:
            backoff_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (failed - 1))
            wait_s = backoff_s * (1 + JITTER * (2 * draw - 1))
        return wait_s if wait_s <= self.longest_wait_s and wait_s < left_s else None


NO_RETRIES = Retries(attempts=1)
