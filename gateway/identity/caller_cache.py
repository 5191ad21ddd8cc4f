"""Callers whose credential is verified already, so that the next call of theirs costs microseconds.

Owns the memory and its bound. What is kept is the digest of a credential, never the credential.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from gateway.policy.facts import Caller

MAX_CALLERS = 16_384


class CallerCache:
    """The most recently seen callers, each until its credential ends."""

    def __init__(self, size: int = MAX_CALLERS) -> None:
        self._size = size
        self._callers: OrderedDict[Hashable, Caller] = OrderedDict()

    def __len__(self) -> int:
        return len(self._callers)

    def get(self, digest: Hashable, wall_time_s: float) -> Caller | None:
        """The caller of a credential; None if it is not known, or its time is over."""
        caller = self._callers.get(digest)
        if caller is None:
            return None
        if caller.expires_at_s is not None and wall_time_s >= caller.expires_at_s:
            del self._callers[digest]
            return None
        self._callers.move_to_end(digest)
        return caller

    def put(self, digest: Hashable, caller: Caller) -> None:
        """Keep a caller; the one that was not seen for the longest time goes if there is no room."""
        if len(self._callers) >= self._size and digest not in self._callers:
            self._callers.popitem(last=False)
        self._callers[digest] = caller

    def clear(self) -> None:
        """Verify everybody anew, as after any change of a file."""
        self._callers.clear()
