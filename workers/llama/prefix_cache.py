"""Which sequence of the KV cache holds which tokens, whose they are, and which may go.

Owns the sequence numbers. Pure: it decides and returns what to do with the cells as values;
the decode loop does it. Prefixes are shared only within one tenant. In a unified KV cache a
copy shares the cells, so it costs nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

MIN_KEPT_TOKENS = 8
"""A shorter prefix is not worth a sequence."""


@dataclasses.dataclass(frozen=True, slots=True)
class CopyCells:
    """Let `target` share the first `length` tokens of `source`."""

    source: int
    target: int
    length: int


@dataclasses.dataclass(frozen=True, slots=True)
class TrimCells:
    """Let `sequence` keep only its first `length` tokens."""

    sequence: int
    length: int


CellOperation = CopyCells | TrimCells


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """A sequence for one job, its first `cached` tokens already computed."""

    sequence: int
    cached: int
    operations: tuple[CellOperation, ...]


@dataclasses.dataclass(slots=True)
class _Entry:
    sequence: int
    tenant: str = ""
    tokens: list[int] = dataclasses.field(default_factory=list)
    length: int = 0
    is_leased: bool = False
    last_used: int = 0


class PrefixCache:
    """The sequences of one KV cache: leased to a job, idle with a prefix, or empty."""

    def __init__(self, sequences: int, idle_tokens: int, *, can_share: bool = True) -> None:
        """Begin with empty sequences.

        idle_tokens: the most that idle prefixes may hold in all. can_share: False for models
        whose state cannot be cut, which then start every prompt afresh.
        """
        self._entries = [_Entry(sequence) for sequence in range(sequences)]
        self._idle_limit = idle_tokens
        self._can_share = can_share
        self._clock = 0

    def lease(self, tokens: list[int], tenant: str) -> Lease | None:
        """The best sequence for a prompt; None when all are leased.

        The last token is never taken from the cache: its logits are needed.
        """
        free = [entry for entry in self._entries if not entry.is_leased]
        if not free:
            return None
        source, cached = self._longest_match(tokens, tenant)
        if source is None:
            target = _oldest(free)
            return self._grant(target, tokens, tenant, 0, (TrimCells(target.sequence, 0),))
        source.last_used = self._tick()
        others = [entry for entry in free if entry is not source]
        is_whole = not source.is_leased and cached == source.length
        if is_whole or not others:
            operations: tuple[CellOperation, ...] = (TrimCells(source.sequence, cached),)
            return self._grant(source, tokens, tenant, cached, operations)
        target = _oldest(others)
        operations = (TrimCells(target.sequence, 0), CopyCells(source.sequence, target.sequence, cached))
        return self._grant(target, tokens, tenant, cached, operations)

    def computed(self, sequence: int, length: int) -> None:
        """Note that the first `length` tokens of a leased sequence have cells now."""
        self._entries[sequence].length = length

    def release(self, sequence: int) -> tuple[CellOperation, ...]:
        """End a lease and keep what was computed, as far as idle prefixes may."""
        entry = self._entries[sequence]
        entry.is_leased = False
        entry.tokens = entry.tokens[: entry.length]
        entry.last_used = self._tick()
        if not self._can_share or entry.length < MIN_KEPT_TOKENS:
            return (self._empty(entry),)
        operations: list[CellOperation] = [TrimCells(sequence, entry.length)]
        operations += [self._empty(other) for other in self._idle() if _is_contained(other, entry)]
        while self.idle_tokens > self._idle_limit:
            operations.append(self._empty(_oldest(self._idle())))
        return tuple(operations)

    def discard(self, sequence: int) -> tuple[CellOperation, ...]:
        """End a lease and keep nothing."""
        entry = self._entries[sequence]
        entry.is_leased = False
        return (self._empty(entry),)

    def evict_oldest(self) -> tuple[CellOperation, ...]:
        """Give up the idle prefix that was unused for longest; nothing if there is none."""
        idle = self._idle()
        return (self._empty(_oldest(idle)),) if idle else ()

    def forget_all(self) -> None:
        """Note that the memory was cleared: no sequence holds anything, none is leased."""
        self._entries = [_Entry(entry.sequence) for entry in self._entries]

    def match_length(self, tokens: list[int], tenant: str) -> int:
        """How many tokens of a prompt `lease` would take from the cache now."""
        return self._longest_match(tokens, tenant)[1]

    @property
    def can_share(self) -> bool:
        """True if prefixes are shared at all."""
        return self._can_share

    @property
    def idle_tokens(self) -> int:
        """Tokens that idle prefixes hold; shared cells count for each."""
        return sum(entry.length for entry in self._idle())

    @property
    def leased_tokens(self) -> int:
        """Tokens that leased sequences hold; shared cells count for each."""
        return sum(entry.length for entry in self._entries if entry.is_leased)

    def _longest_match(self, tokens: list[int], tenant: str) -> tuple[_Entry | None, int]:
        best, best_length = None, 0
        if not self._can_share:
            return best, best_length
        for entry in self._entries:
            limit = min(entry.length, len(tokens) - 1)
            if entry.tenant != tenant or limit <= best_length:
                continue
            length = common_prefix(entry.tokens, tokens, limit)
            if length > best_length:
                best, best_length = entry, length
        return best, best_length

    def _grant(
        self,
        entry: _Entry,
        tokens: list[int],
        tenant: str,
        cached: int,
        operations: tuple[CellOperation, ...],
    ) -> Lease:
        entry.tenant, entry.tokens, entry.length = tenant, tokens, cached
        entry.is_leased, entry.last_used = True, self._tick()
        return Lease(entry.sequence, cached, operations)

    def _empty(self, entry: _Entry) -> TrimCells:
        entry.tokens, entry.length, entry.tenant = [], 0, ""
        return TrimCells(entry.sequence, 0)

    def _idle(self) -> list[_Entry]:
        return [entry for entry in self._entries if not entry.is_leased and entry.length]

    def _tick(self) -> int:
        self._clock += 1
        return self._clock


def common_prefix(first: list[int], second: list[int], limit: int) -> int:
    """Length of the longest common beginning, at most `limit` (which both must have)."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _oldest(entries: Sequence[_Entry]) -> _Entry:
    """The empty ones first, then by last use."""
    return min(entries, key=lambda entry: (entry.length > 0, entry.last_used))


def _is_contained(other: _Entry, entry: _Entry) -> bool:
    if other is entry or other.tenant != entry.tenant or other.length > entry.length:
        return False
    return common_prefix(other.tokens, entry.tokens, other.length) == other.length
