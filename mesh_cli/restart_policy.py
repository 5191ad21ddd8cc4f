"""What follows when a process of the mesh ends by itself: start it again, after how long, or give up.

Pure: facts in, decision out. Does not start anything; the supervisor does.
"""

from __future__ import annotations

import dataclasses

SETTINGS_REFUSED = 2
"""Exit code of a service whose flags or variables are wrong: it cannot get better by itself."""


@dataclasses.dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Exponential backoff, forgotten once a process was stable.

    max_start_failures: after so many ends in a row, without ever having been ready, a service
    has failed for good.
    """

    initial_s: float = 0.5
    factor: float = 2.0
    max_s: float = 30.0
    stable_s: float = 30.0
    max_start_failures: int = 3


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """What is remembered of a service between its processes.

    failures: ends in a row without a stable time between. has_been_ready: ever.
    """

    failures: int = 0
    has_been_ready: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class End:
    """How a process ended. code: as of subprocess, negative = signal. ready_s: how long it was ready."""

    code: int
    was_ready: bool
    ready_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """What to do. delay_s: wait before the next start; None = give up."""

    history: History
    delay_s: float | None


def after_end(history: History, end: End, policy: RestartPolicy) -> Decision:
    """What to do after a process ended without being asked to."""
    is_stable = end.was_ready and end.ready_s >= policy.stable_s
    failures = 1 if is_stable else history.failures + 1
    known = History(failures, history.has_been_ready or end.was_ready)
    if not known.has_been_ready and (end.code == SETTINGS_REFUSED or failures >= policy.max_start_failures):
        return Decision(known, None)
    # The exponent is bounded so that a service which fails for days does not overflow a float.
    delay_s = policy.initial_s * policy.factor ** min(failures - 1, 32)
    return Decision(known, min(policy.max_s, delay_s))
