"""Threads follow the quota of the pod, and the native library finds a quiet environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.llama.environment import native_environment, thread_count, usable_cpus

AFFINITY = len(os.sched_getaffinity(0))


def test_waiting_threads_leave_the_cores_to_others_and_an_abort_starts_no_debugger() -> None:
    assert native_environment() == {"OMP_WAIT_POLICY": "passive", "GGML_NO_BACKTRACE": "1"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("max 100000", AFFINITY),
        ("nonsense", AFFINITY),
        ("9900000 100000", AFFINITY),
    ],
)
def test_the_quota_of_cgroup_2_limits_the_threads(tmp_path: Path, content: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert usable_cpus(tmp_path) == expected


def test_the_quota_of_cgroup_1_limits_the_threads(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cpus(tmp_path) == 1


def test_no_cgroup_means_the_affinity(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == AFFINITY


def test_a_small_model_takes_one_thread_unless_more_are_asked_for() -> None:
    assert thread_count(2_000_000) == 1
    assert thread_count(2_000_000, requested=3) == 3
    assert 1 <= thread_count(1_000_000_000) <= AFFINITY
