"""Reads GBNF text.

Owns the notation and the limits of what callers may send. llama.cpp's own reader aborts or runs
for ever on some grammars and prints refused ones to stderr, so none reaches it. Its notation for
single tokens (<...>) is not taken: it depends on the model.
Source: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

from __future__ import annotations

import re

from inference_mesh.errors import InvalidInputError
from workers.llama.gbnf.grammar import (
    LAST_CHARACTER,
    Alternatives,
    Call,
    Characters,
    Grammar,
    Item,
    assembled,
    characters,
)

MAX_GRAMMAR_BYTES = 64 << 10
MAX_RULES = 4_000
MAX_NESTING = 64
MAX_REPETITIONS = 2_000
MAX_ELEMENTS = 150_000
"""Characters and calls once every repetition is written out."""

_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_COUNT = re.compile(r"\{[ \t]*(\d{1,9})[ \t]*(?:(,)[ \t]*(\d{1,9})?[ \t]*)?\}")
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-", "^": "^"}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
_OFTEN = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_ANY = characters([], is_negated=True)


def caller_grammar(text: str, field: str) -> Grammar:
    """The grammar of a caller's text. Raises InvalidInputError saying where it is wrong."""
    size = len(text.encode())
    if size > MAX_GRAMMAR_BYTES:
        raise InvalidInputError(f"{field} has {size} bytes; allowed: at most {MAX_GRAMMAR_BYTES}")
    return parsed_grammar(text, field)


def parsed_grammar(text: str, field: str) -> Grammar:
    """The grammar of GBNF text of any length. field: of the request, for errors."""
    return assembled(_Parser(text, field).rules(), field)


class _Parser:
    """Reads one text; the rules that it makes itself have names that begin with "_ "."""

    def __init__(self, text: str, field: str) -> None:
        self._text = text
        self._field = field
        self._at = 0
        self._rules: dict[str, Alternatives] = {}
        self._own = 0
        self._size = 0
        self._singles: dict[int, Characters] = {}

    def rules(self) -> dict[str, Alternatives]:
        """All rules of the text."""
        self._skip(_SPACE_AND_LINES)
        while self._at < len(self._text):
            self._rule()
        return self._rules

    def _rule(self) -> None:
        name = self._name()
        self._skip(_SPACE)
        if not self._takes("::="):
            raise self._wrong("expected '::='")
        if name in self._rules:
            raise self._wrong(f"rule '{name[:64]}' is defined twice")
        self._skip(_SPACE_AND_LINES)
        self._add(name, self._alternatives(0))
        if self._at < len(self._text) and self._text[self._at] not in "\r\n":
            raise self._wrong("expected the end of the line")
        self._skip(_SPACE_AND_LINES)

    def _alternatives(self, depth: int) -> list[list[Item]]:
        if depth > MAX_NESTING:
            raise self._wrong(f"parentheses are nested deeper than {MAX_NESTING}")
        found = [self._sequence(depth)]
        while self._takes("|"):
            self._skip(_SPACE_AND_LINES)
            found.append(self._sequence(depth))
        return found

    def _sequence(self, depth: int) -> list[Item]:
        items: list[Item] = []
        while (found := self._element(depth)) is not None:
            items += self._repeated(found)
            self._skip(_SPACE_AND_LINES if depth else _SPACE)
        return items

    def _element(self, depth: int) -> list[Item] | None:
        """What one symbol matches; None where no symbol stands."""
        if self._takes('"'):
            return self._literal()
        if self._takes("["):
            return [self._class()]
        if self._takes("."):
            return [_ANY]
        if self._takes("("):
            self._skip(_SPACE_AND_LINES)
            inner = self._alternatives(depth + 1)
            if not self._takes(")"):
                raise self._wrong("expected ')'")
            return [self._named(inner)]
        return [Call(self._name())] if _NAME.match(self._text, self._at) else None

    def _literal(self) -> list[Item]:
        items: list[Item] = []
        while not self._takes('"'):
            code = self._character()
            items.append(self._singles.setdefault(code, Characters(((code, code),))))
        return items

    def _class(self) -> Characters:
        is_negated = self._takes("^")
        ranges = []
        while not self._takes("]"):
            low = high = self._character()
            if self._text[self._at : self._at + 1] == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                high = self._character()
            if high < low:
                raise self._wrong("a range ends before it begins")
            ranges.append((low, high))
        return characters(ranges, is_negated=is_negated)

    def _character(self) -> int:
        if self._at >= len(self._text):
            raise self._wrong("ends within a text or a class of characters")
        character = self._text[self._at]
        self._at += 1
        if character != "\\":
            return ord(character)
        kind = self._text[self._at : self._at + 1]
        self._at += 1
        if kind in _ESCAPES:
            return ord(_ESCAPES[kind])
        if kind not in _HEX_DIGITS:
            raise self._wrong('unknown escape; allowed are \\t \\r \\n \\\\ \\" \\[ \\] \\- \\^ \\x \\u \\U')
        digits = self._text[self._at : self._at + _HEX_DIGITS[kind]]
        self._at += len(digits)
        if (
            not re.fullmatch(f"[0-9a-fA-F]{{{_HEX_DIGITS[kind]}}}", digits)
            or int(digits, 16) > LAST_CHARACTER
        ):
            raise self._wrong(f"\\{kind} needs {_HEX_DIGITS[kind]} hexadecimal digits of a character")
        return int(digits, 16)

    def _repeated(self, items: list[Item]) -> list[Item]:
        """What follows of `*`, `+`, `?` and `{m,n}`, written out as rules."""
        sign = self._text[self._at : self._at + 1]
        if sign in _OFTEN:
            least, most = _OFTEN[sign]
            self._at += 1
        elif sign == "{":
            least, most = self._counts()
        else:
            return self._counted(items)
        if self._text[self._at : self._at + 1] in (*_OFTEN, "{"):
            raise self._wrong("a repetition is repeated; put it into parentheses")
        item = items[0] if len(items) == 1 else self._named([items])
        result: list[Item] = [item] * least
        if most is None:
            name = self._own_name()
            self._add(name, [[item, Call(name)], []])
            return self._counted([*result, Call(name)])
        rest: list[Item] = []
        for _ in range(most - least):
            rest = [self._named([[item, *rest], []])]
        return self._counted([*result, *rest])

    def _counts(self) -> tuple[int, int | None]:
        found = _COUNT.match(self._text, self._at)
        if found is None:
            raise self._wrong("expected {m}, {m,} or {m,n}")
        self._at = found.end()
        least = int(found[1])
        most = (int(found[3]) if found[3] else None) if found[2] else least
        if max(least, most or 0) > MAX_REPETITIONS or (most is not None and most < least):
            raise self._wrong(
                f"a repetition must be from 0 to {MAX_REPETITIONS}, and not end before it begins"
            )
        return least, most

    def _named(self, alternatives: list[list[Item]]) -> Call:
        """A call of a new rule."""
        name = self._own_name()
        self._add(name, alternatives)
        return Call(name)

    def _own_name(self) -> str:
        self._own += 1
        return f"_ {self._own}"

    def _add(self, name: str, alternatives: Alternatives) -> None:
        self._rules[name] = alternatives
        if len(self._rules) - self._own > MAX_RULES:
            raise self._wrong(f"has more than {MAX_RULES} rules")
        self._count(1 + len(alternatives))

    def _counted(self, items: list[Item]) -> list[Item]:
        self._count(len(items))
        return items

    def _count(self, elements: int) -> None:
        self._size += elements
        if self._size > MAX_ELEMENTS:
            raise self._wrong(f"has more than {MAX_ELEMENTS} elements once its repetitions are written out")

    def _name(self) -> str:
        found = _NAME.match(self._text, self._at)
        if found is None:
            raise self._wrong("expected the name of a rule")
        self._at = found.end()
        return found.group()

    def _takes(self, text: str) -> bool:
        if not self._text.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def _skip(self, what: re.Pattern[str]) -> None:
        found = what.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _wrong(self, what: str) -> InvalidInputError:
        line = self._text.count("\n", 0, self._at) + 1
        return InvalidInputError(f"{self._field}, line {line}: {what}")
