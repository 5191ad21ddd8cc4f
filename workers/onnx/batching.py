"""Which of the waiting rows form the next batch. Pure: a queue and limits in, places out.

Owns the choice; the scheduler owns the queue. The request that has waited longest is always
in the batch. Rows of near its length join it, from the nearest on, as long as the limits
hold. Padding costs as much as text, while a larger batch saves only the fixed cost of a run:
with lengths evenly spread, a batch is of the best size when its padding costs what a run does
(the economic order quantity; Harris 1913).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from typing import NamedTuple


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One piece of a request that is computed whole: a text, or a set of tensors.

    index: its position in the request. length: tokens of each of its lines. lines: its size
    along the graph's first dimension. group: rows of equal groups may share a batch; None =
    runs alone.
    """

    index: int
    length: int
    lines: int
    group: Hashable | None


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a batch may hold; a single row is served even if it exceeds them.

    max_tokens: lines x longest length, padding included. max_lines: lines. max_padding:
    tokens of padding in all; what a run costs by itself, in tokens. enough_tokens: a batch of so
    many tokens, without padding, takes no more rows. window: rows looked at.
    """

    max_tokens: int
    max_lines: int
    max_padding: int
    enough_tokens: int = 2**31
    window: int = 128


def shared_limits(limits: Limits, lines: int, sessions: int) -> Limits:
    """The limits of one batch when so many lines wait for so many idle sessions: a fair share."""
    share = -(-lines // sessions)
    return dataclasses.replace(limits, max_lines=max(1, min(limits.max_lines, share)))


class Place(NamedTuple):
    """Where a row stands: the request's place in the queue, the row's among its rows."""

    request: int
    row: int


def next_batch(waiting: Sequence[Sequence[Row]], limits: Limits) -> list[Place]:
    """The places of the rows to compute next; at least one, all of one group.

    waiting: the rows of each request, the request that has waited longest first; none empty.
    """
    window = _window(waiting, limits.window)
    first = waiting[window[0].request][window[0].row]
    batch = _Batch(limits, first)
    if first.group is None:
        return window[:1]
    mates = [(place, waiting[place.request][place.row]) for place in window[1:]]
    mates = [(place, row) for place, row in mates if row.group == first.group]
    shorter = [mate for mate in mates if mate[1].length < first.length]
    longer = [mate for mate in mates if mate[1].length >= first.length]
    # Sorting is stable, so that of equally long rows the one that waited longer is taken;
    # the best candidate of each list is its last.
    shorter = sorted(shorter, key=lambda mate: -mate[1].length)[::-1]
    longer = sorted(longer, key=lambda mate: mate[1].length)[::-1]
    return window[:1] + _grow(batch, shorter, longer)


def _window(waiting: Sequence[Sequence[Row]], size: int) -> list[Place]:
    """The first rows of the queue, one of each request in turn, so that none is crowded out."""
    places: list[Place] = []
    depth = 0
    requests = list(range(min(len(waiting), size)))
    while requests and len(places) < size:
        places += [Place(request, depth) for request in requests]
        depth += 1
        requests = [request for request in requests if depth < len(waiting[request])]
    return places[:size]


class _Batch:
    """A batch that grows, and its costs."""

    def __init__(self, limits: Limits, first: Row) -> None:
        self._limits = limits
        self._lines = first.lines
        self._longest = first.length
        self._tokens = first.lines * first.length

    def padding_with(self, row: Row) -> int:
        """Tokens of padding that the batch has once the row has joined."""
        padded = (self._lines + row.lines) * max(self._longest, row.length)
        return padded - self._tokens - row.lines * row.length

    def has_room_for(self, row: Row) -> bool:
        """True if the row may join within the limits."""
        lines = self._lines + row.lines
        padded = lines * max(self._longest, row.length)
        tokens = self._tokens + row.lines * row.length
        return (
            self._tokens < self._limits.enough_tokens
            and lines <= self._limits.max_lines
            and padded <= self._limits.max_tokens
            and padded - tokens <= self._limits.max_padding
        )

    def add(self, row: Row) -> None:
        """Take the row in."""
        self._lines += row.lines
        self._longest = max(self._longest, row.length)
        self._tokens += row.lines * row.length


def _grow(batch: _Batch, shorter: list[tuple[Place, Row]], longer: list[tuple[Place, Row]]) -> list[Place]:
    """The places that join, each the one that costs the least padding at its turn."""
    joined: list[Place] = []
    while shorter or longer:
        sides = [side for side in (longer, shorter) if side and batch.has_room_for(side[-1][1])]
        if not sides:
            break
        place, row = min(sides, key=lambda side: batch.padding_with(side[-1][1])).pop()
        batch.add(row)
        joined.append(place)
    return joined
