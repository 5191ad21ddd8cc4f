"""How far one answer is within its grammar, and which tokens may come next.

Owns the set of ways in which the text so far fits the grammar. An ambiguous grammar can have
more ways with each character than memory holds: their number and the work done for them are
limited, by counts and not by time, so that an answer is the same each time. Text is UTF-8 always:
a token may end within a character, which the next one must finish.
"""

from __future__ import annotations

import numpy as np

from inference_mesh.errors import InvalidInputError
from workers.llama.gbnf.grammar import Call, Characters, Grammar, Item
from workers.llama.sampling import BoolArray

MAX_WAYS = 10_000
FIRST_WORK = 1_000_000
WORK_PER_TOKEN = 20_000
"""Steps of following the grammar, for an answer as a whole: about a second, and 10 ms for each token."""

MAX_KEPT_NODES = 50_000
"""Beyond so many, those that the text so far does not need are forgotten."""

_END = 0
"""The node that stands for the end of the text."""

_Place = tuple[int, bytes]
"""A set of ways, by its number, and the bytes of a character that is not complete."""


class GrammarState:
    """One answer's place in a grammar."""

    def __init__(self, grammar: Grammar) -> None:
        """At the beginning. Raises InvalidInputError if that alone has too many ways."""
        self._grammar = grammar
        self._work = 0
        self._allowed_work = FIRST_WORK
        self._most_nodes = MAX_KEPT_NODES
        self._forget()
        self._place: _Place = (self._set_of(self._closure([(root, _END) for root in grammar.roots])), b"")
        self._tried: tuple[bytes, _Place | None] = (b"", None)

    @property
    def field(self) -> str:
        """The field of the request that the grammar came from."""
        return self._grammar.field

    @property
    def may_end(self) -> bool:
        """True if the text so far is whole."""
        ways, partial = self._place
        return not partial and _END in self._sets[ways]

    @property
    def remembered(self) -> int:
        """Places in the grammar that are kept in memory."""
        return len(self._nodes)

    def allows(self, piece: bytes) -> bool:
        """True if these bytes, at least one, may come next. Raises InvalidInputError."""
        place = self._after(self._place, piece) if piece else None
        self._tried = (piece, place)
        return place is not None

    def accept(self, piece: bytes) -> None:
        """Go on past these bytes. Raises ValueError if they are not allowed, InvalidInputError."""
        if self._tried[0] != piece:
            self.allows(piece)
        place = self._tried[1]
        if place is None:
            raise ValueError("the grammar does not allow this token")
        self._place = place
        self._tried = (b"", None)
        self._allowed_work += WORK_PER_TOKEN
        if len(self._nodes) > self._most_nodes:
            self._compact()

    def first_bytes(self) -> BoolArray:
        """bool (256,): no other byte than these may come next."""
        ways, partial = self._place
        found = np.zeros(256, dtype=np.bool_)
        if partial:
            found[0x80:0xC0] = True
            return found
        for item in {item for item in map(self._item, self._sets[ways]) if item is not None}:
            for low, high in item.ranges:
                found[_lead_byte(low) : _lead_byte(high) + 1] = True
        return found

    def _after(self, place: _Place, piece: bytes) -> _Place | None:
        ways, partial = place
        text, rest = _decoded(partial + piece)
        if text is None:
            return None
        for character in text:
            ways = self._step(ways, ord(character))
            if not self._sets[ways]:
                return None
        return (ways, rest) if not rest or self._may_begin(ways, rest) else None

    def _may_begin(self, ways: int, partial: bytes) -> bool:
        low, high = _characters_of(partial)
        items = map(self._item, self._sets[ways])
        return any(item is not None and item.meets(low, high) for item in items)

    def _step(self, ways: int, code: int) -> int:
        key = ways, code
        if key not in self._steps:
            nodes = self._sets[ways]
            self._spend(len(nodes))
            begins = []
            for node in nodes:
                item = self._item(node)
                if item is not None and code in item:
                    position, parent = self._nodes[node]
                    begins.append((position + 1, parent))
            self._steps[key] = self._set_of(self._closure(begins))
        return self._steps[key]

    def _closure(self, begins: list[tuple[int, int]]) -> list[int]:
        """The nodes at which a character is read, or the text ends, from these places on."""
        elements, found, seen = self._grammar.elements, list[int](), set(begins)
        waiting = begins[::-1]
        while waiting:
            position, parent = waiting.pop()
            item = elements[position]
            if isinstance(item, Characters):
                found.append(self._node(position, parent))
                continue
            if isinstance(item, Call):
                # A call at the end of an alternative needs no way back to it: so a repetition
                # of any length takes no room.
                back = parent if elements[position + 1] is None else self._node(position + 1, parent)
                following = [(begin, back) for begin in item.alternatives]
            elif parent == _END:
                found.append(_END)
                continue
            else:
                following = [self._nodes[parent]]
            self._spend(1 + len(following))
            for one in reversed(following):
                if one not in seen:
                    seen.add(one)
                    waiting.append(one)
            if len(seen) > 2 * MAX_WAYS:
                raise self._too_ambiguous()
        return found

    def _set_of(self, nodes: list[int]) -> int:
        if len(nodes) > MAX_WAYS:
            raise self._too_ambiguous()
        ways = frozenset(nodes)
        if ways not in self._set_numbers:
            self._set_numbers[ways] = len(self._sets)
            self._sets.append(ways)
        return self._set_numbers[ways]

    def _node(self, position: int, parent: int) -> int:
        key = position, parent
        number = self._node_numbers.get(key)
        if number is None:
            number = self._node_numbers[key] = len(self._nodes)
            self._nodes.append(key)
        return number

    def _item(self, node: int) -> Characters | None:
        """What a node reads; None at the end of the text."""
        item: Item | None = self._grammar.elements[self._nodes[node][0]] if node != _END else None
        return item if isinstance(item, Characters) else None

    def _spend(self, steps: int) -> None:
        self._work += steps
        if self._work > self._allowed_work:
            raise self._too_ambiguous()

    def _too_ambiguous(self) -> InvalidInputError:
        return InvalidInputError(f"{self.field} is too ambiguous: one text fits it in too many ways")

    def _forget(self) -> None:
        self._nodes: list[tuple[int, int]] = [(-1, -1)]
        self._node_numbers: dict[tuple[int, int], int] = {}
        self._sets: list[frozenset[int]] = []
        self._set_numbers: dict[frozenset[int], int] = {}
        self._steps: dict[tuple[int, int], int] = {}

    def _compact(self) -> None:
        """Keep the nodes of the text so far alone; parents have lower numbers than what stands on them."""
        (ways, partial), nodes = self._place, self._nodes
        current = self._sets[ways]
        needed, waiting = {_END}, list(current)
        while waiting:
            node = waiting.pop()
            if node not in needed:
                needed.add(node)
                waiting.append(nodes[node][1])
        self._forget()
        renumbered = {_END: _END}
        for node in sorted(needed - {_END}):
            position, parent = nodes[node]
            renumbered[node] = self._node(position, renumbered[parent])
        self._place = self._set_of([renumbered[node] for node in current]), partial
        self._most_nodes = max(MAX_KEPT_NODES, 2 * len(self._nodes))


def _decoded(data: bytes) -> tuple[str | None, bytes]:
    """The characters of the bytes, and the bytes of one that is not complete; None if it is no UTF-8."""
    try:
        return data.decode("utf-8"), b""
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return None, b""
        return data[: error.start].decode("utf-8"), data[error.start :]


def _lead_byte(code: int) -> int:
    """The first byte of a character in UTF-8; rises with the code point."""
    if code < 0x80:
        return code
    if code < 0x800:
        return 0xC0 | code >> 6
    return 0xE0 | code >> 12 if code < 0x10000 else 0xF0 | code >> 18


def _characters_of(partial: bytes) -> tuple[int, int]:
    """The first and the last character that these bytes may become."""
    lead = partial[0]
    length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    low, high = _SECOND_BYTES.get(lead, (0x80, 0xBF))
    first, last = partial, partial
    if len(partial) == 1:
        first, last = partial + bytes([low]), partial + bytes([high])
    first += b"\x80" * (length - len(first))
    last += b"\xbf" * (length - len(last))
    return ord(first.decode("utf-8")), ord(last.decode("utf-8"))


_SECOND_BYTES = {0xE0: (0xA0, 0xBF), 0xED: (0x80, 0x9F), 0xF0: (0x90, 0xBF), 0xF4: (0x80, 0x8F)}
"""Where not all of 0x80 to 0xBF may follow a first byte. Source: RFC 3629."""
