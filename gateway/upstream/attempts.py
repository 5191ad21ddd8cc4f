"""The attempts of one call: which replica each takes, and whether another may follow.

Owns the rule of retries: only before the first byte of the answer, or where the rest can be
had elsewhere; only when the replica was unavailable, or failed in the middle of an answer; at
most three attempts in a row without a step forward; and within the budget. The first one after
a lost or hung replica is free: it takes no more work, so moving its calls multiplies nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Collection, Iterator
from typing import Generic, TypeVar

from gateway.call import Call
from gateway.policy.routing.outliers import Fault
from gateway.policy.routing.retry_budget import MAX_ATTEMPTS, RetryBudget
from gateway.upstream.endpoints import Endpoint
from gateway.upstream.metrics import UpstreamMetrics
from gateway.upstream.pool import EndpointPool
from gateway.upstream.worker_status import lost_connection
from inference_mesh.errors import UnavailableError
from inference_mesh.load_report import LoadReport
from inference_mesh.tracing import span

MUTE_SHARE = 0.9
"""Of the longest time of a call: a replica that had so much of it and said nothing is hung."""

E = TypeVar("E", bound=Endpoint)


class Attempts(Generic[E]):
    """Owns what was tried for one call."""

    def __init__(
        self,
        call: Call,
        pool: EndpointPool[E],
        budget: RetryBudget,
        metrics: UpstreamMetrics,
        rng: random.Random,
        prefix: int | None = None,
    ) -> None:
        """prefix: `affinity.prefix_hash` of the prompt's beginning; None = any replica will do."""
        self._call = call
        self._pool = pool
        self._budget = budget
        self._metrics = metrics
        self._rng = rng
        self._prefix = prefix
        self._tried: list[E] = []
        self._started_s = 0.0
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
        self._started_s = asyncio.get_running_loop().time()
        endpoint = self._pool.pick(self._tried, self._started_s, self._rng, self._prefix)
        if endpoint is None:
            raise self.unavailable()
        self._tried.append(endpoint)
        self._call.endpoint = endpoint.address
        self._call.attempts += 1
        with endpoint.in_use(), span(self._call.method, kind="client") as current:
            current.set_attribute("mesh.model", self._call.model)
            current.set_attribute("server.address", endpoint.address)
            current.set_attribute("mesh.attempt", self._call.attempts)
            yield endpoint

    def step_forward(self) -> None:
        """The attempt brought something: what failed before it no longer counts."""
        del self._tried[:-1]

    def succeeded(self) -> None:
        """The last attempt ended well."""
        self._pool.note_success(self._tried[-1])

    def note_load(self, report: LoadReport | None) -> None:
        """The replica of the last attempt said how busy it is."""
        if report is not None:
            self._pool.note_report(self._tried[-1], report, asyncio.get_running_loop().time())

    def may_follow(self, fault: Fault, *, is_repeatable: bool, has_begun: bool = False) -> bool:
        """Whether another attempt may follow one that failed with this fault, which is noted.

        is_repeatable: nothing of the answer went out, or the rest can be had elsewhere. has_begun:
        the attempt brought something. A replica that fails at once may do so because of the
        request, and the next one would too; one that had begun to answer could read it.
        """
        now_s = asyncio.get_running_loop().time()
        self._pool.note_fault(self._tried[-1], fault, self._started_s, now_s, self._rng)
        if not is_repeatable or len(self._tried) >= MAX_ATTEMPTS:
            return False
        if fault is Fault.FAILED and not has_begun:
            return False
        if fault is Fault.HUNG and not self._pool.has_other(self._tried):
            return False
        if not self._is_free(fault, now_s):
            if not self._budget.take():
                return False
            self._charged += 1
        self._metrics.retries.labels(self._call.model).inc()
        return True

    def note_if_mute(self, timeout_s: float) -> None:
        """The time of the call is over. A replica that had nearly all that a call may take is hung.

        One that had less may just be slow for a caller in a hurry. timeout_s: the model's.
        """
        now_s = asyncio.get_running_loop().time()
        if now_s - self._started_s >= MUTE_SHARE * timeout_s:
            self._pool.note_fault(self._tried[-1], Fault.HUNG, self._started_s, now_s, self._rng)

    def unavailable(self) -> UnavailableError:
        """The error when no replica can answer, or go on with the answer."""
        return lost_connection(self._call)

    def _is_free(self, fault: Fault, now_s: float) -> bool:
        """Whether the next attempt only moves the call away from a replica that does nothing more."""
        if len(self._tried) > 1:
            return False
        is_hung = fault is Fault.HUNG and self._tried[-1].conduct.is_ejected(now_s)
        return fault is Fault.LOST or is_hung


class RetryBudgets:
    """Owns one budget for each model."""

    def __init__(self) -> None:
        self._budgets: dict[str, RetryBudget] = {}

    def of(self, model: str) -> RetryBudget:
        """The budget of a model of the registry."""
        return self._budgets.setdefault(model, RetryBudget())

    def keep_only(self, models: Collection[str]) -> None:
        """Forget the budgets of models that are no more."""
        self._budgets = {model: budget for model, budget in self._budgets.items() if model in models}
