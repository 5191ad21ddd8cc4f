"""Which errors a client sends a call again for, and when."""

from __future__ import annotations

import pytest

from inference_mesh.client.retries import FIRST_BACKOFF_S, JITTER, LONGEST_BACKOFF_S, NO_RETRIES, Retries
from inference_mesh.errors import (
    DeadlineExceededError,
    InvalidInputError,
    MeshError,
    OverloadedError,
    RateLimitedError,
    RequestTooLargeError,
    ShuttingDownError,
    UnavailableError,
)

MIDDLE = 0.5
PATIENT = Retries(attempts=20)


@pytest.mark.parametrize(
    "error",
    [
        InvalidInputError("x"),
        RequestTooLargeError("x"),
        DeadlineExceededError("x"),
        RateLimitedError("a limit of the caller's own, and no hint"),
    ],
)
def test_what_would_fail_again_is_sent_once(error: MeshError) -> None:
    assert PATIENT.wait_s(error, 1, 60.0, MIDDLE) is None


@pytest.mark.parametrize("kind", [RateLimitedError, OverloadedError, UnavailableError, ShuttingDownError])
def test_the_servers_hint_is_obeyed_to_the_letter(kind: type[MeshError]) -> None:
    for failed, draw in ((1, 0.0), (7, 0.99)):
        assert PATIENT.wait_s(kind("x", retry_after_s=1.25), failed, 60.0, draw) == 1.25


def test_without_a_hint_the_waits_double_up_to_a_limit() -> None:
    waits = [PATIENT.wait_s(UnavailableError("x"), failed, 60.0, MIDDLE) for failed in (1, 2, 3, 12)]
    assert waits == [FIRST_BACKOFF_S, 2 * FIRST_BACKOFF_S, 4 * FIRST_BACKOFF_S, LONGEST_BACKOFF_S]
    shortest = PATIENT.wait_s(UnavailableError("x"), 1, 60.0, 0.0)
    assert shortest == pytest.approx(FIRST_BACKOFF_S * (1 - JITTER))


def test_a_wait_never_reaches_the_deadline_nor_exceeds_the_longest() -> None:
    hinted = OverloadedError("x", retry_after_s=10.0)
    assert PATIENT.wait_s(hinted, 1, 10.0, MIDDLE) is None
    assert PATIENT.wait_s(hinted, 1, 10.1, MIDDLE) == 10.0
    assert Retries(longest_wait_s=9.0).wait_s(hinted, 1, 60.0, MIDDLE) is None


def test_the_attempts_are_counted() -> None:
    error = UnavailableError("x", retry_after_s=0.1)
    assert Retries(attempts=3).wait_s(error, 2, 60.0, MIDDLE) == 0.1
    assert Retries(attempts=3).wait_s(error, 3, 60.0, MIDDLE) is None
    assert NO_RETRIES.wait_s(error, 1, 60.0, MIDDLE) is None


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="attempts"):
        Retries(attempts=0)
