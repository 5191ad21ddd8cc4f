"""`python -m workers.host.child`: a worker that ends when its host does, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from workers.__main__ import main

PR_SET_PDEATHSIG = 1
"""Of linux/prctl.h."""


def end_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when `parent` ends; exit if it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the host has ended")


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    main(sys.argv[2:])
