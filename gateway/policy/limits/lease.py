"""Leases: what one gateway reports to the ledger that all share, and what it is answered.

Owns the values that go both ways, and the words for where a rule's room comes from. Neither
side's clock is here: a moment is either local (`_s`) or the ledger's (`_us`).
"""

from __future__ import annotations

import dataclasses
import enum

from gateway.policy.limits.rules import LimitRule

ROOM = 0.0
"""A check's verdict: there is room."""
ASK = -1.0
"""A check's verdict: the ledger may have room. Any other verdict is the wait in seconds."""

UNKNOWN_WINDOW = -1
"""Number of a token window before the ledger has told it."""

UNKNOWN_REMAINING = 2**53
"""What nobody holds before the ledger has told it: more than any limit."""

UNKNOWN_RETRY_S = 1.0
"""Hint where only the ledger's return helps."""


class Source(enum.Enum):
    """Where the room of a rule comes from.

    OWN: this gateway is the only one. LEASED: the ledger, which may be asked. ASKED: the
    ledger, which was asked just now. GONE: the ledger cannot be asked.
    """

    OWN = enum.auto()
    LEASED = enum.auto()
    ASKED = enum.auto()
    GONE = enum.auto()


OWN, LEASED, ASKED, GONE = Source  # plain names: looked up several times in each call


@dataclasses.dataclass(frozen=True, slots=True)
class Terms:
    """How a gateway shares limits. source: where room comes from; replicas: gateways that share."""

    source: Source
    replicas: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What this gateway holds of one rule, and wants.

    number: of the token window that total belongs to. total: tokens or calls that it uses or
    may still use, or requests that it may still admit; replaces what it reported before. need:
    what it wants on top, at least; wish: what it would like on top, beside the spare that it has.
    lost: tokens that gateways had taken which were gone at lost_at_us; this may be all that is
    left to tell of them. reached_us: latest arrival time that the ledger answered.
    debt: requests that it admitted without the ledger; back: requests that it gives back.
    """

    rule: LimitRule
    number: int = UNKNOWN_WINDOW
    total: int = 0
    need: int = 0
    wish: int = 0
    spare: int = 0
    lost: int = 0
    lost_at_us: float = 0.0
    reached_us: float = 0.0
    debt: int = 0
    back: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What the ledger says of one rule.

    granted: what came on top. total: what this gateway holds now. remaining: what nobody
    holds. number: of the current token window; left_s: its rest. reached_us: arrival time of
    the request after the last one granted. lost: tokens that gateways hold which are gone.
    """

    granted: int = 0
    total: int = 0
    remaining: int = 0
    number: int = UNKNOWN_WINDOW
    left_s: float = 0.0
    reached_us: float = 0.0
    lost: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """When an exchange happened.

    sent_s, now_s: local clock when it was sent, and now. behind_s: what to take from a moment
    of the ledger, in seconds, to have the earliest local one that it can be. ledger_us: the
    ledger's clock.
    """

    sent_s: float
    now_s: float
    behind_s: float
    ledger_us: float = 0.0


def ceiling_without_ledger(share: int, held: int, known_remaining: int, replicas: int) -> int:
    """Most that one gateway may hold while the ledger cannot be asked.

    share: the limit divided by the gateways. held: what it uses already. known_remaining: what
    nobody held when the ledger was last asked, or UNKNOWN_REMAINING where that says nothing. With fresh
    knowledge the gateways together stay within the limit, even where one used more than its share.
    """
    if known_remaining == UNKNOWN_REMAINING:
        return share
    return min(share, held + max(known_remaining, 0) // replicas)
