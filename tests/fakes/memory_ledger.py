"""A ledger in memory, which can hang, fail and lose answers.

It grants as the script in Redis does, with a clock that a test sets. What only Redis has (its
loss of memory, calls that overtake each other) is tested on a real one.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from gateway.limits.ledger import Exchange, LedgerError
from gateway.policy.limits.lease import Answer, Report


class LedgerStore:
    """Owns what all gateways hold. now_us: the ledger's clock."""

    def __init__(self, *, replicas: int) -> None:
        self.replicas = replicas
        self.now_us = 1e12
        self.held: dict[tuple[str, int], dict[str, int]] = {}
        self.next_us: dict[str, float] = {}

    def answer(self, gateway: str, report: Report) -> Answer:
        """Count one report and grant."""
        if report.rule.kind == "requests":
            return self._requests(gateway, report)
        window_us = report.rule.window_s * 1e6
        number = math.floor(self.now_us / window_us) if window_us else -1
        left_s = ((number + 1) * window_us - self.now_us) / 1e6 if window_us else 0.0
        held = self.held.setdefault((report.rule.name, number), {})
        total = report.total if report.number in (number, -1) else 0
        remaining = report.rule.amount - sum(held.values()) + held.get(gateway, 0) - total
        granted = self._granted(remaining, report)
        held[gateway] = total + granted
        return Answer(granted, total + granted, remaining - granted, number, left_s)

    def _requests(self, gateway: str, report: Report) -> Answer:
        rule, interval_us = report.rule, report.rule.interval_s * 1e6
        latest_us = self.now_us + rule.window_s * 1e6
        held = self.held.setdefault((rule.name, -1), {})
        others = sum(held.values()) - held.get(gateway, 0)
        bound = others + max(held.get(gateway, 0), report.total)
        next_us = max(self.next_us.get(rule.name, 0.0), self.now_us + bound * interval_us)
        next_us -= report.back * interval_us
        next_us = max(next_us, self.now_us + (others + report.total) * interval_us)
        next_us = min(next_us + report.debt * interval_us, latest_us)
        cells = math.floor((latest_us - next_us) / interval_us + 1e-6)
        granted = self._granted(cells, report)
        held[gateway] = report.total + granted
        self.next_us[rule.name] = next_us + granted * interval_us
        return Answer(granted, held[gateway], cells - granted, reached_us=self.next_us[rule.name])

    def _granted(self, remaining: int, report: Report) -> int:
        if remaining <= 0:
            return 0
        spare = min(report.wish, remaining // (2 * self.replicas) - report.spare)
        return min(remaining, max(report.need, spare, 0))


class MemoryLedger:
    """Owns one gateway's way to a store. exchanges: how many there were."""

    def __init__(self, store: LedgerStore, gateway: str = "one") -> None:
        self._store = store
        self._gateway = gateway
        self.exchanges = 0
        self.is_failing = False
        self.answers_lost = 0
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def exchange(self, reports: Sequence[Report]) -> Exchange:
        """The store's answers; waits while the ledger hangs."""
        self.exchanges += 1
        if self.is_failing:
            raise LedgerError("failing")
        await self.is_open.wait()
        answers = tuple(self._store.answer(self._gateway, report) for report in reports)
        if self.answers_lost and reports:
            self.answers_lost -= 1
            raise LedgerError("the answer was lost")
        return Exchange(answers, self._store.now_us, "epoch", is_settling=False)

    def note_all_told(self) -> None:
        """This ledger waits for nobody."""

    async def close(self) -> None:
        """Nothing to let go of."""
