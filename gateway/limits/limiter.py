"""The limiter: whether a call has room in all of its limits, and what it may have.

Owns the limits of this process and, with a ledger, its leases of those that gateways share. A
call is decided without waiting unless a lease ran out. Which rules apply to a call, and what a
refusal becomes on the wire, is not its matter.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence

from gateway.limits.accounts import SLICE, Accounts
from gateway.limits.grant import Grant, Released
from gateway.limits.leases import ANSWER_LIMIT_S, TICK_S, Leases
from gateway.limits.ledger import Ledger
from gateway.limits.metrics import LimitMetrics
from gateway.policy.facts import Cost, Refuse, Standing
from gateway.policy.limits.call_accounts import CallAccounts
from gateway.policy.limits.decision import lacking, own_account, shared_account, take_all
from gateway.policy.limits.lease import GONE, OWN, Terms
from gateway.policy.limits.rules import LimitRule

ROUNDS = 3
"""Most exchanges that a call waits for."""

ALONE = Terms(OWN)


class Limiter:
    """Owns what is left of every limit. With a ledger, `run` must run; else it only tidies up."""

    def __init__(
        self,
        metrics: LimitMetrics,
        ledger: Ledger | None = None,
        *,
        replicas: int = 1,
        clock: Callable[[], float] = time.monotonic,
        window_phase_s: float = 0.0,
    ) -> None:
        """A limiter of whole limits.

        ledger: what several gateways share; None = this one is alone. replicas: how many they
        are. clock: seconds, monotonic; the one that `now_s` is read from. window_phase_s: added
        to the clock before it is cut into token windows; wall minus monotonic time makes them
        end with the hours of UTC. With a ledger its clock does.
        """
        self._metrics = metrics
        self._clock = clock
        new_account = own_account if ledger is None else shared_account
        self._accounts = Accounts(functools.partial(new_account, phase_s=window_phase_s))
        self._leases: Leases | None = None
        self._on_release: Released | None = None
        if ledger is not None:
            self._leases = Leases(ledger, self._accounts, metrics, replicas=replicas, clock=clock)
            self._on_release = self._leases.note_release
        else:
            metrics.ledger_up.set(1)

    def __len__(self) -> int:
        """Limits of which something is taken, or was by one of the last callers."""
        return len(self._accounts)

    @property
    def is_degraded(self) -> bool:
        """Whether there is a ledger that cannot be asked."""
        return self._terms.source is GONE

    def try_acquire(self, rules: Sequence[LimitRule], cost: Cost, now_s: float) -> Grant | Refuse | None:
        """Take one call from all of its limits, or nothing; None = `acquire` must ask the ledger.

        A grant must be settled. The answer may be shorter than asked for, where a token budget
        holds the prompt and at least one token.
        """
        of_call = self._accounts.of(rules, now_s)
        terms = ALONE if self._leases is None else self._leases.terms
        prompt_tokens, completion_tokens = cost
        if not of_call.take(prompt_tokens + completion_tokens, now_s):
            return self._decide(of_call, cost, now_s, terms)
        if terms.source is GONE:
            self._note_degraded(of_call)
        return Grant(of_call, prompt_tokens, completion_tokens, now_s, terms, self._on_release)

    async def acquire(self, rules: Sequence[LimitRule], cost: Cost, now_s: float) -> Grant | Refuse:
        """The same, after asking the ledger where a lease ran out; within about 5 ms."""
        leases, until_s = self._leases, self._clock() + ANSWER_LIMIT_S
        for _ in range(ROUNDS):
            outcome = self.try_acquire(rules, cost, now_s)
            if outcome is not None or leases is None:
                return _decided(outcome)
            # What one round brings may be gone to calls that came meanwhile.
            accounts = self._accounts.of(rules, now_s).accounts
            wanted = [(one, one.wish_of(cost)) for one in lacking(accounts, cost, now_s, leases.terms)]
            is_answered = await leases.ask(wanted, until_s - self._clock())
            now_s = max(now_s, self._clock())
            if not is_answered:
                return _decided(self._decide(self._accounts.of(rules, now_s), cost, now_s, leases.gone))
        terms = leases.asked if leases is not None else ALONE
        return _decided(self._decide(self._accounts.of(rules, now_s), cost, now_s, terms))

    def standings(self, rules: Sequence[LimitRule], now_s: float) -> tuple[Standing, ...]:
        """How limits stand; consumes nothing and keeps nothing."""
        return tuple(self._accounts.peek(rule).standing(now_s, self._terms) for rule in rules)

    def budgets(self, now_s: float) -> list[tuple[LimitRule, Standing]]:
        """How each token budget stands that is in use; may be asked by another thread."""
        used = [one.rule for some in self._accounts.slices() for one in some if one.rule.kind == "tokens"]
        return list(zip(used, self.standings(used, now_s), strict=True))

    async def wait_until_known(self, limit_s: float) -> bool:
        """Whether the ledger could be asked within so many seconds; at once without one.

        A gateway that waits for this before it serves does not begin with degraded answers.
        """
        if self._leases is None:
            return True
        try:
            async with asyncio.timeout(limit_s):
                await self._leases.is_known.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Renew leases and forget what is whole again, until cancelled."""
        if self._leases is not None:
            await self._leases.run()
        while True:
            await asyncio.sleep(TICK_S)
            self._accounts.forget_idle(SLICE, self._clock())

    @property
    def _terms(self) -> Terms:
        return ALONE if self._leases is None else self._leases.terms

    def _decide(self, of_call: CallAccounts, cost: Cost, now_s: float, terms: Terms) -> Grant | Refuse | None:
        """The decision where not every account has room at hand."""
        taken = take_all(of_call, cost, now_s, terms)
        if self._leases is not None:
            self._leases.renew(of_call.singles)
            self._leases.renew(of_call.windows)
        if taken is None:
            return None
        if terms.source is GONE:
            self._note_degraded(of_call)
        if isinstance(taken, Refuse):
            first = taken.standings[0]
            scope = next(one.rule.scope for one in of_call.accounts if one.rule.name == first.name)
            self._metrics.refusals.labels(first.kind, scope).inc()
            return taken
        grant = Grant(of_call, cost.prompt_tokens, taken, now_s, terms, self._on_release)
        grant.is_clamped = taken < cost.completion_tokens
        return grant

    def _note_degraded(self, of_call: CallAccounts) -> None:
        for policy in {rule.when_gone for rule in of_call.rules}:
            self._metrics.degraded.labels(policy).inc()


def _decided(outcome: Grant | Refuse | None) -> Grant | Refuse:
    if outcome is None:
        raise RuntimeError("only a ledger that may be asked leaves a call undecided")
    return outcome
