"""What the limiter asks of the ledger that several gateways share.

Owns the interface. `redis_ledger` is the one that production uses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from gateway.policy.limits.lease import Answer, Report


class LedgerError(Exception):
    """The ledger did not answer as it must; nothing is known of what it did."""


@dataclasses.dataclass(frozen=True, slots=True)
class Exchange:
    """The ledger's answer to one round of reports.

    answers: one for each report, in order. now_us: the ledger's clock. epoch: changes when the
    ledger may have lost what it knew; every gateway then reports all that it holds.
    is_settling: whether it still gathers those reports and grants nothing. is_withholding:
    whether a gateway was lost together with what the ledger knew, so that what that one took
    last is known to nobody, and the rest of the windows of that time is not granted. gateways:
    that were heard of just now.
    """

    answers: tuple[Answer, ...]
    now_us: float
    epoch: str
    is_settling: bool
    is_withholding: bool = False
    gateways: int = 0


class Ledger(Protocol):
    """Counts what all gateways together hold of each rule."""

    async def exchange(self, reports: Sequence[Report]) -> Exchange:
        """Report and be granted. Raises LedgerError.

        A report replaces what this gateway reported before, so that a lost answer heals with
        the next report. Calls must not overlap.
        """
        ...

    def note_all_told(self) -> None:
        """All that this gateway holds was reported since the ledger answers again."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...
