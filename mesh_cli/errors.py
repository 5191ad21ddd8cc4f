"""What can go wrong for the user of `mesh`, and the exit code of each.

Owns the codes: 0 done, 1 the thing asked for failed, 2 used or configured wrongly, 3 no mesh
is running. Does not own inference errors: those are MeshError, and end with 1.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3


class CliError(Exception):
    """Something that the user can understand and act on; printed without a traceback."""

    exit_code: ClassVar[int] = EXIT_FAILED


class FailedError(CliError):
    """The thing asked for failed."""


class UsageError(CliError):
    """Wrong options, or a configuration that cannot be used."""

    exit_code = EXIT_USAGE


class NotRunningError(CliError):
    """There is no mesh to talk to."""

    exit_code = EXIT_NOT_RUNNING
