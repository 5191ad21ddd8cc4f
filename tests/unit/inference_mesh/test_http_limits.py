from __future__ import annotations

import pytest

from inference_mesh.http_protocol import ConnectionAge, HttpLimits, Phase, Verdict, judge

LIMITS = HttpLimits(header_timeout_s=10, keep_alive_s=65, write_timeout_s=30, linger_s=2)


@pytest.mark.parametrize(
    ("phase", "phase_s", "head_bytes", "stalled_s", "verdict"),
    [
        (Phase.HEAD, 9, 0, 0, Verdict.KEEP),
        (Phase.HEAD, 11, 0, 0, Verdict.CLOSE),
        (Phase.HEAD, 11, 1, 0, Verdict.REFUSE),
        (Phase.REQUEST, 3600, 0, 0, Verdict.KEEP),
        (Phase.REQUEST, 40, 0, 29, Verdict.KEEP),
        (Phase.REQUEST, 40, 0, 31, Verdict.CLOSE),
        (Phase.IDLE, 64, 0, 0, Verdict.KEEP),
        (Phase.IDLE, 66, 0, 0, Verdict.CLOSE),
        (Phase.IDLE, 40, 0, 31, Verdict.CLOSE),
        (Phase.LINGER, 1, 0, 0, Verdict.KEEP),
        (Phase.LINGER, 3, 0, 0, Verdict.CLOSE),
    ],
)
def test_each_phase_of_a_connection_has_its_limit(
    phase: Phase, phase_s: float, head_bytes: int, stalled_s: float, verdict: Verdict
) -> None:
    assert judge(ConnectionAge(phase, phase_s, head_bytes, stalled_s), LIMITS) is verdict


def test_the_sweep_is_often_against_short_limits_and_at_most_each_second() -> None:
    assert LIMITS.sweep_interval_s <= 0.5
    assert HttpLimits(linger_s=20, header_timeout_s=20).sweep_interval_s == 1.0
    assert HttpLimits(header_timeout_s=0.001).sweep_interval_s == 0.02
