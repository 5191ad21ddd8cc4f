"""What the process around llama.cpp needs: its environment and how many threads it may use.

Owns both decisions. Does not set anything: the environment must stand before the native
library is loaded, so whoever starts the process sets it.
"""

from __future__ import annotations

import os
from pathlib import Path

SMALL_MODEL_PARAMETERS = 10_000_000
"""Below this a second thread costs more in waiting than it computes."""


def native_environment() -> dict[str, str]:
    """Environment variables of a process that runs llama.cpp.

    Passive waiting: spinning OpenMP threads starve everyone else on shared cores (1.4
    against 9 tokens per second on a loaded machine). No backtrace: on an abort ggml would
    start a debugger first.
    """
    return {"OMP_WAIT_POLICY": "passive", "GGML_NO_BACKTRACE": "1"}


def thread_count(parameter_count: int, requested: int = 0) -> int:
    """Threads for a model: as requested, else 1 for a small one, else all that may be used."""
    if requested > 0:
        return requested
    return 1 if parameter_count < SMALL_MODEL_PARAMETERS else usable_cpus(Path("/sys/fs/cgroup"))


def usable_cpus(cgroup: Path) -> int:
    """Whole CPUs of this process: the smaller of its affinity and its cgroup's quota."""
    affinity = len(os.sched_getaffinity(0))
    quota = _quota_cpus(cgroup)
    return max(1, affinity if quota is None else min(affinity, int(quota)))


def _quota_cpus(cgroup: Path) -> float | None:
    """CPUs that the cgroup may use, version 2 before version 1; None = no limit."""
    limit = _words(cgroup / "cpu.max")
    if len(limit) == 2:
        return _share(limit[0], limit[1])
    quota = _words(cgroup / "cpu" / "cpu.cfs_quota_us")
    period = _words(cgroup / "cpu" / "cpu.cfs_period_us")
    return _share(quota[0], period[0]) if quota and period else None


def _share(quota: str, period: str) -> float | None:
    is_limited = quota.isdigit() and period.isdigit() and int(period) > 0
    return int(quota) / int(period) if is_limited else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
