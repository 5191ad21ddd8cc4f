"""Processes whose disks are read-only or full: in a mount namespace of their own.

The folder of a test stays writable, for the port file and the log that the test itself needs.
"""

from __future__ import annotations

from pathlib import Path

ISOLATED = ("unshare", "--mount", "--map-root-user", "bash", "-euc")
KEEP = """
mount --make-rprivate /
mount --bind "$0" "$0"
"""
READ_ONLY = f'{KEEP} mount -o remount,bind,ro /\nexec "$@"'
FULL_TMP = """
mount --make-rprivate /
mkdir -p "$0/full"
mount -t tmpfs -o size=64k tmpfs "$0/full"
dd if=/dev/zero of="$0/full/filler" bs=1k count=128 2>/dev/null || true
export TMPDIR="$0/full" HOME="$0/full"
exec "$@"
"""


def with_a_read_only_root(folder: Path) -> tuple[str, ...]:
    """Runs a program that may write to this folder and nowhere else."""
    return (*ISOLATED, READ_ONLY, str(folder))


def with_a_full_tmp(folder: Path) -> tuple[str, ...]:
    """Runs a program for whose temporary files and home there is not a byte left; folder: of the test."""
    return (*ISOLATED, FULL_TMP, str(folder))
