"""Room: what the calls of this gateway may take of one limit without asking anyone. Pure.

Owns the count of what was taken and the lease behind it. A call that finds room changes one
number; all that is slower (asking, renewing, giving back) starts where there is none. Part of a
lease is set aside: who needs it gets it, and the lease is renewed before it is used up.
"""

from __future__ import annotations

import math

from gateway.policy.limits.lease import UNKNOWN_REMAINING, Answer, Received
from gateway.policy.limits.rules import LimitRule

DRY_S = 0.1
"""How long the ledger is not asked again after it had nothing left."""
LEASE_S = 4.0
"""How long a lease without a window may be used without word from the ledger, which ends it after 5 s."""
ANY_SPARE = 2**53
"""A wish for as much as the ledger grants at most; what a script's number can hold exactly."""
PACES = 2
"""What is kept beyond what is in use, as a multiple of what was taken in the last second."""


class Room:
    """Owns what is drawn and leased of one limit.

    drawn: what calls took so far, whatever came back. limit: how far drawn may go until until_s;
    what comes back raises it. reserve: what is leased beyond that. taken: what is leased, in use
    or not. remaining: what nobody holds, by the last answer. is_low: whether the reserve was
    needed since then. is_renewed: whether it is told to the ledger each second. users: how many
    hold on to this account.
    """

    __slots__ = (
        "_contact_total",
        "_drawn_at_tick",
        "_dry_until_s",
        "_kept_spare",
        "drawn",
        "is_alone",
        "is_low",
        "is_renewed",
        "limit",
        "remaining",
        "reserve",
        "rule",
        "taken",
        "until_s",
        "users",
    )

    def __init__(self, rule: LimitRule) -> None:
        self.rule = rule
        self.drawn = self.limit = self.reserve = self.taken = 0
        self.until_s = -math.inf
        self.remaining = UNKNOWN_REMAINING
        self.is_alone = self.is_low = self.is_renewed = False
        self.users = 0
        self._contact_total = 0
        self._dry_until_s = -math.inf
        self._drawn_at_tick = 0
        self._kept_spare = 0

    @property
    def free(self) -> int:
        """What is leased and not in use; below 0 only after a limit was lowered."""
        return self.limit - self.drawn + self.reserve

    @property
    def used(self) -> int:
        """What is in use."""
        return self.taken - self.free

    @property
    def is_tight(self) -> bool:
        """Whether others may wait for what is given back."""
        return self.remaining <= self.limit - self.drawn + self.reserve

    @property
    def has_spare(self) -> bool:
        """Whether something is leased that is not in use."""
        return self.free > 0

    def has_room(self, amount: int, now_s: float) -> bool:
        """Whether so much may be taken now; opens the reserve if that is what it needs."""
        if now_s >= self.until_s:
            return False
        if self.drawn + amount > self.limit and self.reserve:
            self.open_reserve()
        return self.drawn + amount <= self.limit

    def open_reserve(self) -> None:
        """Let calls have what was set aside; the lease should be renewed."""
        self.is_low = self.is_low or self.reserve > 0
        self.limit += self.reserve
        self.reserve = 0

    def be_alone(self) -> None:
        """No other gateway shares this limit."""
        self.is_alone = True

    def adopt(self, rule: LimitRule) -> None:
        """Go on with a rule that was read again; of one that is not shared all applies at once."""
        if self.is_alone and self.taken:
            self.limit += rule.amount - self.taken
            self.taken = rule.amount
        self.rule = rule

    def give_back(self) -> None:
        """Keep nothing of the lease that is not in use; the next report says so."""
        self._kept_spare, self._drawn_at_tick = 0, self.drawn
        self._keep_free(0)

    def trim(self) -> None:
        """Keep of the lease what the pace of the calls since the last time needs; each second.

        While others wait for what is given back it is half as much.
        """
        spent = self.drawn - self._drawn_at_tick
        self._drawn_at_tick = self.drawn
        self._kept_spare = spent if self.is_tight else PACES * spent
        if self.free > self._kept_spare:
            self._keep_free(self._kept_spare)

    def is_dry(self, now_s: float) -> bool:
        """Whether the ledger said just now that there is nothing left."""
        return self.remaining <= 0 and now_s < self._dry_until_s

    def _keep_free(self, free: int) -> None:
        """Have exactly so much of the lease at hand."""
        self.taken += free - self.free
        self.reserve = 0
        self.limit = self.drawn + free

    def _raise_to(self, total: int) -> None:
        """Lease no less than this."""
        if total > self.taken:
            self.limit += total - self.taken
            self.taken = total

    def _lacking(self, wished: int) -> tuple[int, int]:
        """What the ledger is asked for: what calls wait for, and a spare ahead of need."""
        free = self.free
        if wished > free:
            return wished - free, ANY_SPARE
        pace = PACES * (self.drawn - self._drawn_at_tick)
        return 0, max(self._kept_spare - free, pace - free, 0)

    def _learn(self, answer: Answer, received: Received) -> None:
        """What an answer says of all gateways; half of what is free becomes the reserve."""
        self.remaining, self._contact_total = answer.remaining, answer.total
        self.is_low = False
        if answer.remaining <= 0:
            self._dry_until_s = received.now_s + DRY_S
            return
        free = max(self.free, 0)
        self.reserve = free // 2
        self.limit = self.drawn + free - self.reserve
