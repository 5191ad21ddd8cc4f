"""Reads function calls out of an answer as its text comes in.

Owns what is text and what is a call. Text is held while it may begin a call; what turns out to be
none is sent as text. A token is sent with all of its text or not at all, as in `text_stream`, and a
call with all of its tokens.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import string
from collections import deque
from collections.abc import Callable, Collection

from inference_mesh import strict_json
from inference_mesh.errors import InvalidInputError
from inference_mesh.v1 import payload_pb2
from workers.llama.text_stream import Piece
from workers.llama.tools.json_end import JsonEnd
from workers.llama.tools.style import Body, ToolStyle

ID_LENGTH = 9
"""Mistral's templates take ids of 9 letters and digits and no others."""

LONGEST_NAME = 200
"""Characters behind a call's beginning, until its name must have ended."""


def random_id() -> str:
    """An id for a call."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(ID_LENGTH))


@dataclasses.dataclass(frozen=True, slots=True)
class CallPiece:
    """Text and calls that are final now, and the tokens that became final with them."""

    text: str = ""
    tokens: tuple[int, ...] = ()
    calls: tuple[payload_pb2.ToolCall, ...] = ()


@dataclasses.dataclass(slots=True)
class _Part:
    """A decided part of the held text, from where the one before it ends. calls: None = it is text."""

    begin: int
    end: int
    calls: tuple[payload_pb2.ToolCall, ...] | None = None
    is_dropped: bool = False


class ToolCallStream:
    """The text and the calls of one answer."""

    def __init__(
        self, style: ToolStyle, names: Collection[str], new_id: Callable[[], str] = random_id
    ) -> None:
        """names: of the functions that may be called; a call of another is text."""
        self._style = style
        self._names = names
        self._new_id = new_id
        self._held = ""
        self._pieces: deque[tuple[int, tuple[int, ...]]] = deque()
        self._parts: list[_Part] = []
        self._decided = 0
        self._next: Callable[[], bool] = self._at_start if style.may_be_bare else self._in_text
        self._is_over = False
        self._body = 0
        self._read = 0
        self._json = JsonEnd()
        self.made_calls = False
        """True once a call was read."""

    def add(self, piece: Piece) -> CallPiece:
        """What can be sent now that this text was made."""
        self._held += piece.text
        self._pieces.append((len(self._held), piece.tokens))
        while self._next():
            pass
        return self._release(self._boundary())

    def end(self, piece: Piece) -> CallPiece:
        """What is left when `piece` is the last. A call that is not whole is text."""
        self._held += piece.text
        self._pieces.append((len(self._held), piece.tokens))
        self._is_over = True
        while self._next():
            pass
        self._text_until(len(self._held))
        return self._release(len(self._held))

    def pass_over(self, text: str) -> None:
        """Take the text of the first tokens as sent: the reader has it, and the calls in it."""
        self.add(Piece(text))

    def _at_start(self) -> bool:
        """Nothing but spaces came: a body may stand here without its mark."""
        rest = self._held[self._decided :].lstrip()
        if not rest:
            return False
        self._next = self._in_text
        if rest[0] == _OPENS[self._style.body]:
            self._begin_body(self._decided)
        return True

    def _in_text(self) -> bool:
        begin = self._held.find(self._style.begin, self._decided)
        if begin < 0:
            self._text_until(len(self._held) - _overlap(self._held[self._decided :], self._style.begin))
            return False
        self._text_until(begin)
        self._begin_body(begin + len(self._style.begin))
        return True

    def _begin_body(self, at: int) -> None:
        self._body = self._read = at
        self._json = JsonEnd()
        self._next = self._in_name if self._style.body is Body.NAMED else self._before_body

    def _in_name(self) -> bool:
        end = self._held.find(self._style.between, self._body)
        if end < 0:
            return len(self._held) - self._body > LONGEST_NAME and self._no_call(self._body)
        self._read = end + len(self._style.between)
        self._next = self._before_body
        return True

    def _before_body(self) -> bool:
        rest = self._held[self._read :].lstrip()
        if not rest:
            return False
        if rest[0] != _OPENS[self._style.body]:
            return self._no_call(self._read)
        self._next = self._in_body
        return True

    def _in_body(self) -> bool:
        self._read, is_whole = self._json.find(self._held, self._read)
        if not is_whole:
            return False
        calls = self._calls_of(self._held[self._body : self._read])
        if not calls:
            return self._no_call(self._read)
        self.made_calls = True
        self._parts.append(_Part(self._decided, self._read, calls))
        self._decided = self._read
        self._next = self._behind_call
        return True

    def _behind_call(self) -> bool:
        """What closes a call, and the spaces around that, are no text."""
        end = self._style.end
        rest = self._held[self._decided :].lstrip(_SPACES_OF_LISTS if self._style.may_be_bare else None)
        if end and rest.startswith(end):
            rest = rest[len(end) :]
        elif not self._is_over and end.startswith(rest):
            return False
        self._next = self._between_calls
        self._drop_until(len(self._held) - len(rest))
        return True

    def _between_calls(self) -> bool:
        rest = self._held[self._decided :].lstrip()
        if not rest:
            if self._is_over:
                self._drop_until(len(self._held))
            return False
        if rest.startswith(self._style.begin) or self._style.may_be_bare:
            self._drop_until(len(self._held) - len(rest))
        elif self._style.begin.startswith(rest) and not self._is_over:
            return False
        self._next = self._at_start if self._style.may_be_bare else self._in_text
        return True

    def _no_call(self, until: int) -> bool:
        """It was text after all, up to `until`."""
        self._text_until(until)
        self._next = self._in_text
        return True

    def _text_until(self, end: int) -> None:
        if end > self._decided:
            self._parts.append(_Part(self._decided, end))
            self._decided = end

    def _drop_until(self, end: int) -> None:
        if end > self._decided:
            self._parts.append(_Part(self._decided, end, is_dropped=True))
            self._decided = end

    def _boundary(self) -> int:
        """The last end of a piece up to which all is decided, not within a call."""
        boundary = 0
        for end, _ in self._pieces:
            if end > self._decided:
                break
            if not any(part.calls and part.begin < end < part.end for part in self._parts):
                boundary = end
        return boundary

    def _release(self, boundary: int) -> CallPiece:
        texts, calls, kept = list[str](), list[payload_pb2.ToolCall](), list[_Part]()
        for part in self._parts:
            if part.calls is not None and part.end <= boundary:
                calls += part.calls
            elif part.calls is None and not part.is_dropped and part.begin < boundary:
                texts.append(self._held[part.begin : min(part.end, boundary)])
            if part.end > boundary:
                begin = max(part.begin, boundary) - boundary
                kept.append(_Part(begin, part.end - boundary, part.calls, part.is_dropped))
        tokens = list[int]()
        while self._pieces and self._pieces[0][0] <= boundary:
            tokens += self._pieces.popleft()[1]
        self._held = self._held[boundary:]
        self._pieces = deque((end - boundary, of) for end, of in self._pieces)
        self._parts = kept
        self._decided -= boundary
        self._body -= boundary
        self._read -= boundary
        return CallPiece("".join(texts), tuple(tokens), tuple(calls))

    def _calls_of(self, body: str) -> tuple[payload_pb2.ToolCall, ...]:
        """The calls of a whole body; none if it is not a valid one."""
        name, text = "", body
        if self._style.body is Body.NAMED:
            name, _, text = body.partition(self._style.between)
            name = name.partition("[CALL_ID]")[0].strip()
        try:
            strict_json.loads(text.encode())
            found = json.loads(text)  # exact where the other rounds large integers
            if self._style.body is Body.NAMED:
                found = {"name": name, "arguments": found}
            entries = found if isinstance(found, list) else [found]
            return tuple(self._call(entry) for entry in entries)
        except (InvalidInputError, TypeError, ValueError, RecursionError):
            return ()

    def _call(self, entry: object) -> payload_pb2.ToolCall:
        """The call of an entry. Raises TypeError or ValueError if it is none."""
        if not isinstance(entry, dict) or entry.get("name") not in self._names:
            raise ValueError("no call of a known function")
        arguments = entry.get("arguments", entry.get("parameters"))
        if not isinstance(arguments, dict):
            raise TypeError("arguments are not an object")
        written = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        return payload_pb2.ToolCall(id=self._new_id(), name=entry["name"], arguments=written)


_SPACES_OF_LISTS = " \t\r\n;"
"""Between the calls of models that write them without a mark."""

_OPENS = {Body.OBJECT: "{", Body.LIST: "[", Body.NAMED: "{"}


def _overlap(text: str, mark: str) -> int:
    """Length of the longest end of `text` that begins `mark`."""
    for length in range(min(len(text), len(mark) - 1), 0, -1):
        if text.endswith(mark[:length]):
            return length
    return 0
