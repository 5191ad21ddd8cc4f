"""Whether a call that failed is sent again, and when. Pure: the clock and the dice are passed in."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable
from typing import NamedTuple

from inference_mesh.deadlines import LONGEST_S
from inference_mesh.errors import (
    DeadlineExceededError,
    MeshError,
    OverloadedError,
    QuotaError,
    UnavailableError,
)

FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 5.0
JITTER = 0.2
"""Share of a backoff by which it is longer or shorter, so that callers who failed together part."""


@dataclasses.dataclass(frozen=True, slots=True)
class Retries:
    """How patient a client is.

    attempts: calls in all, at least 1. longest_wait_s: a server that asks for more is not waited for.
    Sent again is what another attempt may answer: UnavailableError, OverloadedError and QuotaError.
    A stream is only repeated before its first piece; one that breaks later goes on by the gateway's
    own means where it can.
    """

    attempts: int = 3
    longest_wait_s: float = 30.0

    def __post_init__(self) -> None:
        """Raises ValueError for numbers that no call could follow."""
        if self.attempts < 1 or not self.longest_wait_s >= 0:
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
            # No power of a count that a patient caller has let grow: it would overflow.
            backoff_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(failed - 1, 10))
            wait_s = backoff_s * (1 + JITTER * (2 * draw - 1))
        return wait_s if wait_s <= self.longest_wait_s and wait_s < left_s else None


NO_RETRIES = Retries(attempts=1)


class Failure(NamedTuple):
    """What an attempt failed with. is_final: the server asks that the call is not sent again."""

    error: MeshError
    is_final: bool = False


def failure_of(error: MeshError, pushback_ms: str | None) -> Failure:
    """A failure with what its trailer `grpc-retry-pushback-ms` says; None = there is none.

    Below 0, or no number, asks that the call is not sent again (gRFC A6). It stands in for a hint
    that the error has not.
    """
    if pushback_ms is None:
        return Failure(error)
    try:
        wait_ms = int(pushback_ms)
    except ValueError:
        return Failure(error, is_final=True)
    if wait_ms >= 0 and error.retry_after_s is None:
        error.retry_after_s = wait_ms / 1000
    return Failure(error, is_final=wait_ms < 0)


class Attempts:
    """The attempts of one call, under one deadline. Of one thread."""

    def __init__(
        self,
        timeout_s: float,
        retries: Retries,
        *,
        now_s: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """now_s: seconds of a clock that only goes on. draw: a random number in [0, 1)."""
        self._retries = retries
        self._now_s = now_s
        self._draw = draw
        self._deadline = now_s() + min(timeout_s, LONGEST_S)  # to gRPC, longer ones are over at once
        self._failed = 0
        self._has_delivered = False

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, above 0. Raises DeadlineExceededError when none are left."""
        left_s = self._deadline - self._now_s()
        if not left_s > 0:  # not a number is no time either
            raise DeadlineExceededError("the deadline passed before the call was sent")
        return left_s

    def deliver(self) -> None:
        """The caller has a piece of a stream: the call is not sent again, whatever comes."""
        self._has_delivered = True

    def wait_s(self, failure: Failure) -> float:
        """Seconds until the next attempt. Raises the failure's error if there is none."""
        self._failed += 1
        wait_s = None
        if not (failure.is_final or self._has_delivered):
            left_s = self._deadline - self._now_s()
            wait_s = self._retries.wait_s(failure.error, self._failed, left_s, self._draw())
        if wait_s is None:
            raise failure.error from None
        return wait_s
