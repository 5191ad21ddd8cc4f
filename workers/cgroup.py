"""What the control group of this process allows: CPUs and memory.

Owns the reading of cgroup version 2 and version 1. A pod sees its own group as the root; a
process of a service manager stands somewhere below it, and every group above limits it too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
NO_LIMIT_BYTES = 1 << 60
"""Version 1 writes no limit as a number near 2^63."""


def cpu_quota(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float | None:
    """CPUs that the process may use at a time, on average; None = no limit."""
    found = [share for folder in _folders(root, membership) if (share := _quota(folder)) is not None]
    return min(found, default=None)


def memory_limit_bytes(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int:
    """Memory that the process may use: the smaller of its cgroup's limit and the machine's."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = [limit for folder in _folders(root, membership) if (limit := _memory(folder)) is not None]
    return min([machine, *found])


def _folders(root: Path, membership: Path) -> Iterator[tuple[Path, str]]:
    """Each folder that may hold a limit, with the controller that it is of: "" = all, version 2."""
    for line in _lines(membership) or ["0::/", ":cpu:/", ":memory:/"]:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        inside = Path(path.strip().lstrip("/"))
        for controller in controllers.split(","):
            base = root / controller
            yield from ((base / part, controller) for part in (inside, *inside.parents))


def _quota(place: tuple[Path, str]) -> float | None:
    folder, controller = place
    if controller == "":
        limit = _words(folder / "cpu.max")
        return _share(limit[0], limit[1]) if len(limit) == 2 else None
    quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
    return _share(quota[0], period[0]) if quota and period else None


def _memory(place: tuple[Path, str]) -> int | None:
    folder, controller = place
    words = _words(folder / ("memory.max" if controller == "" else "memory.limit_in_bytes"))
    limit = int(words[0]) if words and words[0].isdigit() else NO_LIMIT_BYTES
    return limit if 0 < limit < NO_LIMIT_BYTES else None


def _share(quota: str, period: str) -> float | None:
    is_limited = quota.isdigit() and period.isdigit() and int(period) > 0
    return int(quota) / int(period) if is_limited else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
