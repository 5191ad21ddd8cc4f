"""Replicas that seem healthy and are left out all the same."""

from __future__ import annotations

import pytest

from gateway.policy.routing.outliers import Conduct, Fault, is_panic, may_eject


def fail(conduct: Conduct, times: int, at_s: float) -> bool:
    return [conduct.fail(Fault.FAILED) for _ in range(times) if conduct.is_news(at_s)][-1]


def test_failures_in_a_row_are_due_for_an_ejection_and_an_answer_forgives_them() -> None:
    conduct = Conduct()
    assert not fail(conduct, 2, at_s=1.0)
    conduct.succeed()
    assert not fail(conduct, 2, at_s=1.0)
    assert fail(conduct, 1, at_s=1.0)


def test_one_silence_is_due_at_once() -> None:
    assert Conduct().fail(Fault.HUNG)


def test_each_ejection_is_longer_up_to_a_minute() -> None:
    conduct, now_s, lengths = Conduct(), 0.0, []
    for _ in range(40):
        conduct.eject(now_s)
        lengths.append(conduct.ejected_until_s - now_s)
        now_s = conduct.ejected_until_s
    assert lengths[:4] == [2.0, 4.0, 6.0, 8.0]
    assert lengths[-1] == 60.0


def test_ejections_are_forgotten_with_time() -> None:
    conduct = Conduct()
    for now_s in (0.0, 2.0, 6.0):
        conduct.eject(now_s)
    assert conduct.ejected_until_s == 12.0
    conduct.eject(12.0 + 65.0)  # two are forgotten after 60 s
    assert conduct.ejected_until_s == 77.0 + 4.0


def test_what_failed_of_the_time_before_it_was_left_out_tells_nothing_new() -> None:
    conduct = Conduct()
    conduct.leave_out(now_s=10.0, for_s=0.5)
    assert not conduct.is_news(started_s=9.0)
    assert conduct.is_news(started_s=10.1)
    assert [conduct.is_out(at_s) for at_s in (10.4, 10.6)] == [True, False]
    conduct.come_back(20.0)
    assert not conduct.is_news(started_s=15.0)


def test_coming_back_ends_a_short_absence_and_keeps_an_ejection() -> None:
    conduct = Conduct()
    conduct.leave_out(10.0, 1.0)
    conduct.come_back(10.1)
    assert not conduct.is_out(10.2)
    conduct.eject(10.2)
    conduct.come_back(10.3)
    assert conduct.is_ejected(10.4)


@pytest.mark.parametrize(
    ("ejected", "replicas", "may"), [(0, 1, False), (0, 2, True), (1, 2, False), (1, 3, False), (1, 4, True)]
)
def test_at_most_half_of_the_replicas_are_ejected(ejected: int, replicas: int, may: bool) -> None:
    assert may_eject(ejected, replicas) is may


@pytest.mark.parametrize(("steady", "replicas", "panic"), [(1, 2, False), (1, 3, True), (0, 1, True)])
def test_below_half_of_the_replicas_ejections_no_longer_count(
    steady: int, replicas: int, panic: bool
) -> None:
    assert is_panic(steady, replicas) is panic


def test_one_that_is_silent_at_work_is_set_aside_until_it_speaks() -> None:
    conduct = Conduct()
    assert [conduct.stall(10.0), conduct.stall(11.2)] == [0.0, pytest.approx(1.2)]
    assert [conduct.is_ejected(at_s) for at_s in (13.1, 13.3)] == [True, False]
    assert conduct.out_until_s == pytest.approx(13.2)
    conduct.speak()
    assert not conduct.is_out(11.3)
    assert conduct.stall(20.0) == 0.0


def test_an_answer_shows_that_one_that_is_silent_goes_on() -> None:
    conduct = Conduct()
    conduct.stall(10.0)
    conduct.succeed()
    assert conduct.stall(60.0) == 0.0
