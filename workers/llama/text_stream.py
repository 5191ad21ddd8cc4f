"""Turns the bytes of tokens into text that can be sent.

Owns three promises: a character is never cut, a stop text never leaks, not even its
beginning, and a token is sent with all of its text or not at all. Works on bytes: UTF-8
synchronises itself, so a stop text is found in bytes exactly where it is in text.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """Text that is final now, and the tokens that became final with it."""

    text: str = ""
    tokens: tuple[int, ...] = ()


class TextStream:
    """The text of one answer, made of token bytes one after the other."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stops = tuple(text.encode() for text in stop)
        self._held = bytearray()
        self._passed = 0
        """How many of the held bytes the reader has: a stop text may begin in them."""
        self._received = 0
        self._unsent: deque[tuple[int, int]] = deque()
        self.is_stopped = False
        """True once a stop text occurred; nothing may be added then."""
        self.stop_text = ""
        """Which one it was."""

    def pass_over(self, pieces: Sequence[bytes]) -> None:
        """Take the bytes of the first tokens as sent: the reader has their text, and them.

        A character that they leave unfinished is sent with the token that finishes it.
        """
        for piece in pieces:
            self._held += piece
            self._received += len(piece)
            if self._find_stop() is not None:
                self.is_stopped = True
                self._flush(0)
                return
            del self._held[: min(self._stop_beginning(), complete_length(self._held))]
        self._passed = complete_length(self._held)

    def add(self, token: int, piece: bytes) -> Piece:
        """What can be sent now that `token` with the bytes `piece` was made."""
        self._held += piece
        self._received += len(piece)
        self._unsent.append((token, self._received))
        stop_at = self._find_stop()
        if stop_at is not None:
            self.is_stopped = True
            return self._flush(stop_at)
        return self._send(self._whole_tokens(min(self._stop_beginning(), complete_length(self._held))))

    def is_valid_next(self, piece: bytes) -> bool:
        """True if the bytes so far, themselves valid, and `piece` are the beginning of UTF-8."""
        unfinished = self._held[complete_length(self._held) :]
        try:
            bytes(unfinished + piece).decode("utf-8")
        except UnicodeDecodeError as error:
            return error.reason == "unexpected end of data"
        return True

    def end(self) -> Piece:
        """What is left when no more tokens come; an incomplete character is dropped."""
        return Piece() if self.is_stopped else self._flush(complete_length(self._held))

    def _flush(self, length: int) -> Piece:
        text = self._text(length)
        tokens = tuple(token for token, _ in self._unsent)
        self._held.clear()
        self._unsent.clear()
        self._passed = 0
        return Piece(text, tokens)

    def _send(self, length: int) -> Piece:
        text = self._text(length)
        del self._held[:length]
        self._passed = max(0, self._passed - length)
        sent_until = self._received - len(self._held)
        tokens = []
        while self._unsent and self._unsent[0][1] <= sent_until:
            tokens.append(self._unsent.popleft()[0])
        return Piece(text, tuple(tokens))

    def _text(self, length: int) -> str:
        return bytes(self._held[self._passed : length]).decode("utf-8", errors="replace")

    def _whole_tokens(self, length: int) -> int:
        """The longest beginning of the held bytes, up to `length`, that ends where a token does.

        Text of a token that is not sent itself would come a second time when the answer is resumed.
        """
        if length == len(self._held):
            return length
        begins_at = self._received - len(self._held)
        whole = 0
        for _, received in self._unsent:
            end = received - begins_at
            if end > length:
                break
            if complete_length(self._held[:end]) == end:
                whole = end
        return whole

    def _find_stop(self) -> int | None:
        """Where the first stop text begins."""
        found = [(at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if not found:
            return None
        at, stop = min(found)
        self.stop_text = stop.decode("utf-8")
        return at

    def _stop_beginning(self) -> int:
        """Length of what precedes the longest end of the held bytes that may become a stop text."""
        size = len(self._held)
        for at in range(max(0, size - max((len(stop) for stop in self._stops), default=0)), size):
            tail = bytes(self._held[at:])
            if any(stop.startswith(tail) for stop in self._stops):
                return at
        return size


def complete_length(data: bytes | bytearray) -> int:
    """Length of `data` without an unfinished UTF-8 character at its end.

    Bytes that can never become a character count as complete: they will be replaced.
    """
    size = len(data)
    for back in range(1, min(4, size) + 1):
        byte = data[size - back]
        if byte < 0x80:
            return size
        if byte >= 0xC0:
            return size - back if _may_continue(bytes(data[size - back :])) else size
    return size


def _may_continue(tail: bytes) -> bool:
    """True if `tail`, beginning with a lead byte, is a character that lacks bytes."""
    try:
        tail.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and error.start == 0
    return False
