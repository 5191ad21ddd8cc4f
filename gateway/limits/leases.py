"""The conversation with the ledger: one exchange at a time, and whether it can be had at all.

Owns what is asked and reported when. Waiting calls are gathered into the next exchange, and with
them the leases that run low, before a call waits for one; each second all leases are renewed and
what nobody uses is given back. What a lease means is the accounts' matter, how it is stored the
ledger's.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence

from gateway.limits.accounts import Accounts
from gateway.limits.ledger import Exchange, Ledger, LedgerError
from gateway.limits.metrics import LimitMetrics
from gateway.policy.limits.call_accounts import Account, SharedAccount
from gateway.policy.limits.call_slots import CallSlots
from gateway.policy.limits.lease import ASKED, GONE, LEASED, Received, Terms
from gateway.policy.limits.request_pace import RequestPace
from gateway.policy.limits.token_window import TokenWindow
from inference_mesh import telemetry

log = telemetry.get_logger(__name__)

TICK_S = 1.0
"""How often leases are renewed."""
PROBE_S = 0.5
"""How often a ledger that is gone is asked whether it is back."""
SETTLE_STEP_S = 0.25
"""How often everything is reported while the ledger gathers what it lost."""
ANSWER_LIMIT_S = 0.004
"""Longest wait of a call: an answer within 5 ms, with the event loop's own rounding."""
EXCHANGE_LIMIT_S = 0.25
"""Longest exchange; the connection is dropped after it. Calls wait far less."""
LOOP_LAG_S = 0.002
"""From how much lateness of a timer on the event loop, not the ledger, is what was late."""
RELEASE_STEP_S = 0.02
"""Shortest time between two reports of what calls gave back."""
RENEW_STEP_S = 0.01
"""How long a lease that runs low waits for others that do, so that one exchange renews them all."""
SLICE = 64
"""Rules in one exchange: about a millisecond of Redis, so that no other gateway waits for it."""


class _Batch:
    """Owns what waiting calls want of the next exchange."""

    def __init__(self) -> None:
        self.wishes: dict[str, int] = {}
        self.is_done = asyncio.Event()


class Leases:
    """Owns the ledger's state as this gateway sees it."""

    def __init__(
        self,
        ledger: Ledger,
        accounts: Accounts,
        metrics: LimitMetrics,
        *,
        replicas: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """replicas: gateways that share the limits. clock: seconds, monotonic."""
        self._ledger = ledger
        self._accounts = accounts
        self._metrics = metrics
        self._clock = clock
        self._leased_terms = Terms(LEASED, replicas)
        self.gone = Terms(GONE, replicas)
        self.asked = Terms(ASKED, replicas)
        self.terms = self.gone
        self.is_known = asyncio.Event()
        self._epoch = ""
        self._answered_s = -math.inf
        self._batch = _Batch()
        self._leased_names: dict[str, None] = {}
        self._released: dict[str, None] = {}
        self._low: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._is_tick_due = True
        self._is_down_logged = self._is_withholding = False
        self._gateways = 0

    async def ask(self, accounts: Iterable[tuple[SharedAccount, int]], limit_s: float) -> bool:
        """Whether the ledger was asked for so much of each account within limit_s.

        What it answers later than that still counts; until then it is as good as gone.
        """
        batch = self._batch
        for account, wish in accounts:
            batch.wishes[account.rule.name] = batch.wishes.get(account.rule.name, 0) + wish
        self._wake.set()
        if await self._within(limit_s, batch.is_done):
            return True
        self._metrics.ledger_calls.labels("late").inc()
        if self._clock() - self._answered_s >= ANSWER_LIMIT_S:
            self._set_down("it is late")
        return False

    def renew(self, accounts: Iterable[SharedAccount]) -> None:
        """Ask soon for more of those whose reserve was needed, so that no call waits for it."""
        for account in accounts:
            if account.is_low:
                self._low[account.rule.name] = None
                self._wake_within(RENEW_STEP_S)

    def note_release(self, account: CallSlots | TokenWindow) -> None:
        """Tell the ledger what a call gave back: soon if others may wait for it."""
        self._keep_renewing(account)
        if self.terms is self._leased_terms and account.is_tight:
            self._released[account.rule.name] = None
            self._wake_within(RELEASE_STEP_S)

    async def run(self) -> None:
        """Exchange until cancelled; then let go of the connection."""
        next_tick_s = -math.inf
        try:
            while True:
                now_s = self._clock()
                if now_s >= next_tick_s or self._is_tick_due:
                    self._is_tick_due = False
                    await self._tick()
                    next_tick_s = self._clock() + self._pause_s()
                elif await self._woken(next_tick_s - now_s) and self.terms is self._leased_terms:
                    await self._exchange_wanted()
        finally:
            await self._leave()
            if self._timer is not None:
                self._timer.cancel()
            await self._ledger.close()

    async def _within(self, limit_s: float, event: asyncio.Event) -> bool:
        """Whether an event came in time; an event loop that was late itself gets a second look."""
        for _ in range(2):
            started_s = self._clock()
            try:
                async with asyncio.timeout(limit_s):
                    await event.wait()
            except TimeoutError:
                if self._clock() - started_s < limit_s + LOOP_LAG_S:
                    break
            else:
                return True
        return event.is_set()

    def _pause_s(self) -> float:
        if self.terms is self._leased_terms:
            return TICK_S
        return SETTLE_STEP_S if self._epoch else PROBE_S

    async def _woken(self, limit_s: float) -> bool:
        try:
            async with asyncio.timeout(limit_s):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    async def _tick(self) -> None:
        """Renew what is leased; after a loss, first hear whether the ledger is there."""
        self._accounts.forget_idle(SLICE, self._clock())
        if self.terms is not self._leased_terms:
            await self._return()
            return
        names = list(self._leased_names)
        for at in range(0, max(len(names), 1), SLICE):
            if self._batch.wishes:  # calls do not wait for the whole tick
                await self._exchange_wanted()
            accounts = self._known(names[at : at + SLICE])
            for account in accounts:
                account.trim()
            if not await self._exchange_checked(accounts, {}):
                return
            await asyncio.sleep(0)

    async def _return(self) -> None:
        """Report everything to a ledger that may have lost it; it is up once it grants again."""
        first = answer = await self._exchange([], {})
        for accounts in self._accounts.slices():
            if answer is None:
                break
            held = [one for one in _shared(accounts) if not one.is_idle(self._clock())]
            answer = await self._exchange(held, {}) if held else answer
        if first is None or answer is None or first.epoch != answer.epoch:
            self._epoch = ""
            return
        self._epoch = answer.epoch
        self._ledger.note_all_told()
        if not answer.is_settling:
            self._set_up()

    async def _leave(self) -> None:
        """Give back what no call uses: the window may be long, and nobody else could use it."""
        if self.terms is not self._leased_terms:
            return
        held = self._known(list(self._leased_names))
        for account in held:
            account.give_back()
        for at in range(0, len(held), SLICE):
            if await self._exchange(held[at : at + SLICE], {}) is None:
                break
        self.terms = self.gone

    async def _exchange_wanted(self) -> None:
        """One exchange for what calls wait for, what they gave back, and what runs low."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        low = [name for name in self._low if name not in self._released][:SLICE]
        if not self._batch.wishes and not self._released and not low:
            return
        batch, self._batch = self._batch, _Batch()
        released, self._released = self._released, {}
        for account in self._known(name for name in released if name not in batch.wishes):
            account.give_back()
        found = self._known(dict.fromkeys((*batch.wishes, *released, *low)))
        for name in low:
            del self._low[name]
        try:
            await self._exchange_checked(found, batch.wishes)
        finally:
            batch.is_done.set()
        if self._low:
            self._wake_within(0)

    def _wake_within(self, limit_s: float) -> None:
        """Exchange so soon, or sooner if that was to be anyway."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(limit_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._wake.set()

    def _known(self, names: Iterable[str]) -> list[SharedAccount]:
        found = [self._accounts.get(name) for name in names]
        return _shared(account for account in found if account is not None)

    async def _exchange_checked(self, accounts: Sequence[SharedAccount], wishes: dict[str, int]) -> bool:
        """Whether the ledger answered, and is the one that was known."""
        answer = await self._exchange(accounts, wishes)
        if answer is None:
            return False
        if answer.is_settling or answer.epoch != self._epoch:
            self._set_down("it gathers what it lost")
            self._epoch = answer.epoch
            return False
        self._set_up()
        self._note_losses(answer)
        return True

    async def _exchange(self, accounts: Sequence[SharedAccount], wishes: dict[str, int]) -> Exchange | None:
        sent_s = self._clock()
        reports = [account.report(wishes.get(account.rule.name, 0), sent_s) for account in accounts]
        try:
            async with asyncio.timeout(EXCHANGE_LIMIT_S):
                answer = await self._ledger.exchange(reports)
        except (LedgerError, TimeoutError) as error:
            self._metrics.ledger_calls.labels("failed").inc()
            self._set_down(str(error) or type(error).__name__)
            return None
        self._metrics.ledger_calls.labels("ok").inc()
        self._answered_s = self._clock()
        received = Received(sent_s, self._answered_s, answer.now_us / 1e6 - sent_s, answer.now_us)
        for account, one in zip(accounts, answer.answers, strict=True):
            account.apply(one, received)
            if account.has_spare:
                self._keep_renewing(account)
            else:
                account.is_renewed = False
                self._leased_names.pop(account.rule.name, None)
        return answer

    def _keep_renewing(self, account: SharedAccount) -> None:
        account.is_renewed = True
        self._leased_names[account.rule.name] = None

    def _note_losses(self, answer: Exchange) -> None:
        """Of a gateway that is gone, hear soon what it had of each limit: Redis may be next."""
        if answer.gateways < self._gateways:
            for accounts in self._accounts.slices():
                for account in _shared(accounts):
                    if not account.is_idle(self._answered_s):
                        self._keep_renewing(account)
        self._gateways = answer.gateways
        if answer.is_withholding and not self._is_withholding:
            log.warning("a gateway was lost together with the shared limits; what is left of them waits")
        self._is_withholding = answer.is_withholding

    def _set_up(self) -> None:
        self.is_known.set()
        self._metrics.ledger_up.set(1)
        self._is_down_logged = False
        if self.terms is self.gone:
            log.info("the shared limits can be asked")
            self.terms = self._leased_terms
            self._is_tick_due = True  # what was taken without the ledger is reported at once

    def _set_down(self, cause: str) -> None:
        """cause: for the log; an exception's class, never its text, which may have the URL."""
        self._metrics.ledger_up.set(0)
        if not self._is_down_logged:
            log.warning("the shared limits cannot be asked; each rule's policy applies", cause=cause)
            self._is_down_logged = True
        if self.terms is self._leased_terms:
            self.terms = self.gone
            self._batch.is_done.set()
            self._batch = _Batch()


def _shared(accounts: Iterable[Account]) -> list[SharedAccount]:
    """With a ledger all of them are."""
    return [account for account in accounts if not isinstance(account, RequestPace)]
