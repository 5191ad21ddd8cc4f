"""Which errors a client sends a call again for, and when."""

from __future__ import annotations

import pytest

from inference_mesh.client.retries import (
    FIRST_BACKOFF_S,
    JITTER,
    LONGEST_BACKOFF_S,
    NO_RETRIES,
    Attempts,
    Failure,
    Retries,
    failure_of,
)
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
LATER = Failure(UnavailableError("later", retry_after_s=2.0))


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def attempts(clock: Clock, timeout_s: float = 10.0, retries: Retries = PATIENT) -> Attempts:
    return Attempts(timeout_s, retries, now_s=clock, draw=lambda: MIDDLE)


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
    endless, error = Retries(attempts=10_000), UnavailableError("x")
    waits = [endless.wait_s(error, failed, 60.0, MIDDLE) for failed in (1, 2, 3, 12, 9_000)]
    assert waits == [
        *(FIRST_BACKOFF_S * factor for factor in (1, 2, 4)),
        LONGEST_BACKOFF_S,
        LONGEST_BACKOFF_S,
    ]
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
    for wait_s in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="longest_wait_s"):
            Retries(longest_wait_s=wait_s)


@pytest.mark.parametrize("pushback_ms", ["-1", "-2147483648", "soon", "", "1.5"])
def test_a_server_that_asks_not_to_come_back_is_left_alone(pushback_ms: str) -> None:
    failure = failure_of(UnavailableError("x", retry_after_s=0.1), pushback_ms)
    assert failure.is_final
    with pytest.raises(UnavailableError):
        attempts(Clock()).wait_s(failure)


def test_a_pushback_stands_in_for_a_hint_and_never_replaces_one() -> None:
    assert failure_of(UnavailableError("x"), "250").error.retry_after_s == 0.25
    assert failure_of(UnavailableError("x"), "0").error.retry_after_s == 0.0
    assert failure_of(UnavailableError("x", retry_after_s=0.2499), "250").error.retry_after_s == 0.2499
    bare = failure_of(UnavailableError("x"), None)
    assert (bare.error.retry_after_s, bare.is_final) == (None, False)


def test_one_deadline_spans_the_attempts() -> None:
    clock = Clock()
    call = attempts(clock)
    assert call.left_s == 10.0
    clock.now_s += 3.0
    assert call.wait_s(LATER) == 2.0
    clock.now_s += 2.0
    assert call.left_s == 5.0
    clock.now_s += 3.0
    with pytest.raises(UnavailableError):
        call.wait_s(LATER)  # 2 s are left, and 2 s it would wait


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan")])
def test_without_time_nothing_is_sent(timeout_s: float) -> None:
    with pytest.raises(DeadlineExceededError):
        _ = attempts(Clock(), timeout_s).left_s


def test_no_deadline_is_one_that_grpc_can_hold() -> None:
    assert 3600 < attempts(Clock(), float("inf")).left_s < 1e9


def test_nothing_is_sent_again_once_a_piece_was_delivered() -> None:
    call = attempts(Clock())
    assert call.wait_s(LATER) == 2.0
    call.deliver()
    with pytest.raises(UnavailableError):
        call.wait_s(LATER)


def test_a_call_counts_its_attempts() -> None:
    call = attempts(Clock(), retries=Retries(attempts=3))
    assert [call.wait_s(LATER), call.wait_s(LATER)] == [2.0, 2.0]
    with pytest.raises(UnavailableError):
        call.wait_s(LATER)
