"""What follows when a process ends: the decision alone."""

from __future__ import annotations

from mesh_cli.restart_policy import Decision, End, History, RestartPolicy, after_end

POLICY = RestartPolicy(initial_s=0.5, factor=2.0, max_s=30.0, stable_s=30.0, max_start_failures=3)
CRASH = End(code=-9, was_ready=True, ready_s=1.0)
BAD_START = End(code=1, was_ready=False)


def _delays(end: End, count: int) -> list[float | None]:
    history, delays = History(), []
    for _ in range(count):
        decision = after_end(history, end, POLICY)
        history = decision.history
        delays.append(decision.delay_s)
    return delays


def test_a_service_that_crashes_again_and_again_is_restarted_after_twice_the_time() -> None:
    assert _delays(CRASH, 9) == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_service_that_crashes_for_days_is_still_restarted() -> None:
    assert after_end(History(10_000, has_been_ready=True), CRASH, POLICY).delay_s == 30.0


def test_a_stable_time_makes_the_backoff_start_anew() -> None:
    decision = after_end(History(6, has_been_ready=True), End(-9, was_ready=True, ready_s=31.0), POLICY)
    assert decision == Decision(History(1, has_been_ready=True), 0.5)


def test_a_model_that_never_loads_is_given_up_after_three_starts() -> None:
    assert _delays(BAD_START, 3) == [0.5, 1.0, None]


def test_wrong_settings_are_given_up_at_once() -> None:
    assert after_end(History(), End(2, was_ready=False), POLICY).delay_s is None


def test_a_service_that_was_once_ready_is_never_given_up() -> None:
    known = History(7, has_been_ready=True)
    assert after_end(known, BAD_START, POLICY).delay_s is not None
    assert after_end(known, End(2, was_ready=False), POLICY).delay_s is not None
