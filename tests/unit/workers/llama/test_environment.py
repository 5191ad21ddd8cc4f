"""Threads follow the quota of the pod, and the native library finds an environment that fits it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers import cgroup
from workers.llama.environment import has_dedicated_cpus, native_environment, thread_count, usable_cpus

AFFINITY = len(os.sched_getaffinity(0))
NOT_A_MEMBER = Path("absent")


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        ("passive", {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}),
        ("active", {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "infinite"}),
        ("20000", {"GOMP_SPINCOUNT": "20000"}),
        ("default", {}),
    ],
)
def test_how_threads_wait_is_as_the_setting_says(waiting: str, expected: dict[str, str]) -> None:
    found = native_environment(waiting, {"OMP_WAIT_POLICY": "other"})
    assert found == {"GGML_NO_BACKTRACE": "1", **expected}


def test_left_to_itself_it_keeps_what_the_environment_says() -> None:
    assert native_environment("auto", {"OMP_WAIT_POLICY": "active"}) == {"GGML_NO_BACKTRACE": "1"}
    assert native_environment("auto", {"GOMP_SPINCOUNT": "7"}) == {"GGML_NO_BACKTRACE": "1"}


def test_left_to_itself_threads_sleep_on_cpus_that_others_share() -> None:
    found = native_environment("auto", {}).get("OMP_WAIT_POLICY")
    assert found == (None if has_dedicated_cpus() else "passive")


@pytest.mark.parametrize(
    ("machine_cpus", "quota", "expected"),
    [
        (AFFINITY, None, False),
        (AFFINITY + 8, None, True),
        (AFFINITY + 8, AFFINITY, True),
        (AFFINITY + 8, AFFINITY / 2, False),
    ],
    ids=["the whole machine", "pinned", "pinned with its whole quota", "pinned and stopped by its quota"],
)
def test_cpus_are_dedicated_when_pinned_and_not_stopped_by_a_quota(
    tmp_path: Path, machine_cpus: int, quota: float | None, expected: bool
) -> None:
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{int(quota * 100_000)} 100000")
    assert has_dedicated_cpus(tmp_path, NOT_A_MEMBER, machine_cpus) is expected


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
    assert usable_cpus(tmp_path, NOT_A_MEMBER) == expected


def test_the_quota_of_cgroup_1_limits_the_threads(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cpus(tmp_path, NOT_A_MEMBER) == 1


def test_the_least_quota_on_the_way_to_the_root_counts(tmp_path: Path) -> None:
    membership = tmp_path / "membership"
    membership.write_text("0::/a.slice/b.service\n")
    own = tmp_path / "a.slice" / "b.service"
    own.mkdir(parents=True)
    (own / "cpu.max").write_text("400000 100000")
    (own.parent / "cpu.max").write_text("150000 100000")
    assert cgroup.cpu_quota(tmp_path, membership) == 1.5


def test_no_cgroup_means_the_affinity(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path, NOT_A_MEMBER) == AFFINITY


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("memory.max", "1073741824", 1 << 30),
        ("memory.max", "max", None),
        ("memory/memory.limit_in_bytes", "1073741824", 1 << 30),
        ("memory/memory.limit_in_bytes", "9223372036854771712", None),
    ],
)
def test_memory_is_what_the_cgroup_leaves_of_the_machines(
    tmp_path: Path, file: str, content: str, expected: int | None
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert cgroup.memory_limit_bytes(tmp_path, NOT_A_MEMBER) == (expected or machine)


def test_a_small_model_takes_one_thread_unless_more_are_asked_for() -> None:
    assert thread_count(2_000_000) == 1
    assert thread_count(2_000_000, requested=3) == 3
    assert 1 <= thread_count(1_000_000_000) <= AFFINITY
