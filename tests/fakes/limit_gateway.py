"""The limits of one gateway as a process of its own: `python -m tests.fakes.limit_gateway`.

Arguments: Redis URL, gateway's name, replicas, a file that gets one line for each admission, at
once, so that a killed process has said what it admitted. Commands come as JSON lines on
standard input and are answered on standard output, one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter
from typing import Any

from prometheus_client import CollectorRegistry

from gateway.limits.grant import Grant
from gateway.limits.limiter import Limiter
from gateway.limits.metrics import LimitMetrics
from gateway.limits.redis_ledger import RedisLedger
from gateway.policy.facts import Cost
from gateway.policy.limits.rules import LimitRule


class LimitGateway:
    """Owns one limiter, the grants that it holds, and the file of admissions."""

    def __init__(self, limiter: Limiter, registry: CollectorRegistry, log: int) -> None:
        self._limiter = limiter
        self._registry = registry
        self._log = log
        self._held: list[Grant] = []

    async def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """What a command brings; the command names a method."""
        name = command.pop("do")
        outcome: dict[str, Any] = await getattr(self, name)(**command)
        return outcome

    async def known(self, limit_s: float) -> dict[str, Any]:
        """Wait until the ledger can be asked, anew each time."""
        until_s = time.monotonic() + limit_s
        while self._limiter.is_degraded and time.monotonic() < until_s:
            await asyncio.sleep(0.005)
        return {"is_known": not self._limiter.is_degraded}

    async def gone(self, limit_s: float) -> dict[str, Any]:
        """Wait until the ledger is seen to be gone."""
        until_s = time.monotonic() + limit_s
        while not self._limiter.is_degraded and time.monotonic() < until_s:
            await asyncio.sleep(0.005)
        return {"is_known": not self._limiter.is_degraded}

    async def pound(
        self,
        rule: dict[str, Any],
        times: int = 10**9,
        for_s: float = 60.0,
        each: int = 1,
        used: int | None = None,
        pause_s: float = 0.0,
    ) -> dict[str, Any]:
        """Acquire again and again. each: tokens wished; used: tokens to settle with, None = hold."""
        rules = (LimitRule(**rule),)
        outcomes: Counter[str] = Counter()
        admitted, waits_s, until_s = 0, [0.0], time.monotonic() + for_s
        for _ in range(times):
            started_s = time.monotonic()
            if started_s > until_s:
                break
            outcome = await self._limiter.acquire(rules, Cost(0, each), started_s)
            waits_s.append(time.monotonic() - started_s)
            if isinstance(outcome, Grant):
                admitted += outcome.token_total or 1
                outcomes["degraded" if outcome.is_degraded else "granted"] += 1
                os.write(self._log, f"{outcome.token_total or 1}\n".encode())
                if used is None:
                    self._held.append(outcome)
                else:
                    outcome.settle(used, time.monotonic())
            else:
                outcomes[outcome.kind.value] += 1
            await asyncio.sleep(pause_s)
        late = sum(wait_s > 0.005 for wait_s in waits_s)
        return {"admitted": admitted, "longest_s": max(waits_s), "late": late, "outcomes": dict(outcomes)}

    async def settle_all(self, used: int) -> dict[str, Any]:
        """Settle what is held."""
        for grant in self._held:
            grant.settle(used, time.monotonic())
        self._held.clear()
        return {}

    async def exchanges(self) -> dict[str, Any]:
        """How often the ledger was asked so far."""
        labels = {"result": "ok"}
        return {"ok": self._registry.get_sample_value("mesh_gateway_ledger_calls_total", labels)}


async def main() -> None:
    """Answer commands until standard input ends."""
    url, name, replicas, log = sys.argv[1:5]
    ledger = RedisLedger(url, gateway_id=name, replicas=int(replicas))
    registry = CollectorRegistry()
    limiter = Limiter(LimitMetrics(registry), ledger, replicas=int(replicas))
    gateway = LimitGateway(limiter, registry, os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(limiter.run())
        while line := await asyncio.to_thread(sys.stdin.readline):
            answer = await gateway.answer(json.loads(line))
            sys.stdout.write(json.dumps(answer) + "\n")
            with contextlib.suppress(BrokenPipeError):
                sys.stdout.flush()
        running.cancel()


if __name__ == "__main__":
    asyncio.run(main())
