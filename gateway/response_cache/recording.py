"""The messages of one answer on their way to the caller, as long as they are not too many."""

from __future__ import annotations

MESSAGE_SLOT_BYTES = 64
"""What Python takes for one message beside its bytes."""


class Recording:
    """Owns what was noted of one answer, in bounded memory."""

    __slots__ = ("_left_bytes", "_messages")

    def __init__(self, max_bytes: int) -> None:
        """max_bytes: of all messages; an answer with more is forgotten."""
        self._left_bytes = max_bytes
        self._messages: list[bytes] = []

    def note(self, message: bytes) -> None:
        """Take over one message of the answer."""
        if self._left_bytes < 0:
            return
        self._left_bytes -= len(message) + MESSAGE_SLOT_BYTES
        if self._left_bytes < 0:
            self._messages = []
        else:
            self._messages.append(message)

    def whole(self) -> tuple[bytes, ...] | None:
        """Every message; None if they were too many."""
        return None if self._left_bytes < 0 else tuple(self._messages)
