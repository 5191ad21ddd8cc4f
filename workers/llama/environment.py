"""What the process around llama.cpp needs: its environment and how many threads it may use.

Owns both decisions. Does not set anything: libgomp reads the environment once, when it is
loaded with the native library, so `__main__` sets it before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from workers import cgroup

SMALL_MODEL_PARAMETERS = 10_000_000
"""Below this a second thread costs more in waiting than it computes."""

WAIT_POLICY, SPIN_COUNT = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"


def native_environment(waiting: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that a process which runs llama.cpp must add to its own.

    waiting: how threads wait for each other: `auto`, `passive` (sleep), `active` (spin for ever),
    `default` (libgomp's own: spin for about a millisecond, then sleep) or a number of spins.
    Under `auto` what the environment says already is kept. No backtrace: on an abort ggml would
    start a debugger first.
    """
    found = {"GGML_NO_BACKTRACE": "1"}
    if waiting == "auto":
        is_told = WAIT_POLICY in environment or SPIN_COUNT in environment
        if not is_told and not has_dedicated_cpus():
            found[WAIT_POLICY] = "passive"
    elif waiting in ("passive", "active"):
        found |= {WAIT_POLICY: waiting, SPIN_COUNT: "0" if waiting == "passive" else "infinite"}
    elif waiting != "default":
        found[SPIN_COUNT] = waiting
    return found


def has_dedicated_cpus(
    root: Path = cgroup.ROOT, membership: Path = cgroup.MEMBERSHIP, machine_cpus: int | None = None
) -> bool:
    """True if the CPUs are this process's alone, as far as that can be seen.

    It is pinned to some of the machine's CPUs (as the static policy of a kubelet does), and its
    quota does not stop it on them. Elsewhere other processes share the CPUs, and threads that
    spin starve them: 1.4 against 9 tokens per second on a loaded machine.
    """
    pinned = len(os.sched_getaffinity(0))
    quota = cgroup.cpu_quota(root, membership)
    return pinned < (machine_cpus or os.cpu_count() or 1) and (quota is None or quota >= pinned)


def thread_count(parameter_count: int, requested: int = 0) -> int:
    """Threads for a model: as requested, else 1 for a small one, else all that may be used."""
    if requested > 0:
        return requested
    return 1 if parameter_count < SMALL_MODEL_PARAMETERS else usable_cpus()


def usable_cpus(root: Path = cgroup.ROOT, membership: Path = cgroup.MEMBERSHIP) -> int:
    """Whole CPUs of this process: the smaller of its affinity and its cgroup's quota."""
    affinity = len(os.sched_getaffinity(0))
    quota = cgroup.cpu_quota(root, membership)
    return max(1, affinity if quota is None else min(affinity, int(quota)))
