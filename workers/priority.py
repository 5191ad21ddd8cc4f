"""In which order waiting requests have their turn, whatever engine they wait for. Pure.

Owns the classes and the rule between them. A class goes before the next one, but only by a
head start: a request that waited longer than that goes before newcomers of any class, so that
none starves.
"""

from __future__ import annotations

import enum


class Priority(enum.IntEnum):
    """The class in which a request waits; a lower number goes first."""

    HIGH = 0
    NORMAL = 1
    BULK = 2


HEAD_START_S = 10.0
"""How much later a request may come than one of the next class and still go first."""


def turn_s(priority: Priority, arrived_s: float) -> float:
    """What waiting requests are sorted by; the lowest goes first.

    arrived_s: in seconds of any one clock.
    """
    return arrived_s + priority * HEAD_START_S
