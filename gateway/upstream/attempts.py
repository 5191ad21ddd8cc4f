"""The attempts of one call: which replica each takes, and whether another may follow.

Owns the rule of retries: only before the first byte of the answer, only when the replica was
unavailable, at most three attempts, and within the budget. The first retry after a lost
connection is free: a dead replica takes no more work, so moving its calls multiplies nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import Generic, TypeVar

from gateway.call import Call
from gateway.metrics import GatewayMetrics
from gateway.policy.routing.retry_budget import MAX_ATTEMPTS, RetryBudget
from gateway.upstream.endpoints import Endpoint, EndpointPool
from inference_mesh.errors import UnavailableError
from inference_mesh.telemetry import span

RETRY_HINT_S = 1.0

E = TypeVar("E", bound=Endpoint)


class Attempts(Generic[E]):
    """Owns what was tried for one call."""

    def __init__(
        self,
        call: Call,
        pool: EndpointPool[E],
        budget: RetryBudget,
        metrics: GatewayMetrics,
        rng: random.Random,
    ) -> None:
        self._call = call
        self._pool = pool
        self._budget = budget
        self._metrics = metrics
        self._rng = rng
        self._tried: list[E] = []
        self._charged = 0

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count the call as active for the length of a block."""
        self._budget.start_call()
        try:
            yield
        finally:
            self._budget.end_call(self._charged)

    @contextlib.contextmanager
    def next(self) -> Iterator[E]:
        """The replica of the next attempt, in use for the length of a block.

        Raises UnavailableError if no replica is healthy.
        """
        endpoint = self._pool.pick(self._tried, asyncio.get_running_loop().time(), self._rng)
        if endpoint is None:
            raise self.unavailable()
        self._tried.append(endpoint)
        self._call.endpoint = endpoint.address
        self._call.attempts += 1
        with endpoint.in_use(), span(self._call.method, kind="client") as current:
            current.set_attribute("mesh.model", self._call.model)
            current.set_attribute("server.address", endpoint.address)
            yield endpoint

    def may_retry(self, *, is_connection_lost: bool, is_repeatable: bool) -> bool:
        """Whether another attempt may follow one that found its replica unavailable.

        The replica is ejected for a moment. is_repeatable: nothing of the answer went out.
        """
        now_s = asyncio.get_running_loop().time()
        self._pool.eject(self._tried[-1], now_s, self._rng)
        if not is_repeatable or len(self._tried) >= MAX_ATTEMPTS:
            return False
        is_free = is_connection_lost and len(self._tried) == 1
        if not is_free:
            if not self._budget.take():
                return False
            self._charged += 1
        self._metrics.retries.labels(self._call.model).inc()
        return True

    def unavailable(self) -> UnavailableError:
        """The error when no replica can answer."""
        return UnavailableError(
            f"no replica of model '{self._call.model}' can answer now", retry_after_s=RETRY_HINT_S
        )


class RetryBudgets:
    """Owns one budget for each model."""

    def __init__(self) -> None:
        self._budgets: dict[str, RetryBudget] = {}

    def of(self, model: str) -> RetryBudget:
        """The budget of a model of the registry."""
        return self._budgets.setdefault(model, RetryBudget())
