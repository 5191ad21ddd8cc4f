"""`python -m mesh_cli.launch PARENT_PID MODULE ARGS…`: runs a module that ends when its parent dies.

The kernel kills the process as soon as the supervisor is gone, even by kill -9, so nothing
is left behind (Linux; elsewhere `mesh down` cleans up). It stands in this small program and
not in a preexec_fn, because that is not safe in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Binds this process to its parent and becomes the module."""
    parent_pid, module = int(sys.argv[1]), sys.argv[2]
    end_with_parent(parent_pid)
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def end_with_parent(parent_pid: int) -> None:
    """Has the kernel kill this process when its parent ends; only on Linux."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died before the line above: then nobody would tell us any more.
    if os.getppid() != parent_pid:
        sys.exit("the supervisor is gone")


if __name__ == "__main__":
    main()
