"""A grammar in the form that is followed: one flat list of elements.

Owns that form, what a set of characters is, and the refusal of grammars that call themselves
before they read anything. How GBNF text becomes one is `parser`'s, following it `state`'s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from inference_mesh.errors import InvalidInputError

LAST_CHARACTER = 0x10FFFF

Ranges = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Characters:
    """A set of characters: ranges of code points, both ends in it, in order, none touching another."""

    ranges: Ranges

    def __contains__(self, code: object) -> bool:
        return any(low <= code <= high for low, high in self.ranges)  # type: ignore[operator]

    def meets(self, low: int, high: int) -> bool:
        """True if a character from low to high is in the set."""
        return any(low <= own_high and own_low <= high for own_low, own_high in self.ranges)


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """Any alternative of another rule. alternatives: where they begin; filled once all rules are known."""

    rule: str
    alternatives: list[int] = dataclasses.field(default_factory=list, compare=False)


Item = Characters | Call
Alternatives = Sequence[Sequence[Item]]


@dataclasses.dataclass(frozen=True, slots=True)
class Grammar:
    """All rules, ready to be followed.

    elements: of all alternatives, one after the other; None = the end of one. roots: where those of
    the root rule begin. field: of the request that it came from, for errors.
    """

    elements: Sequence[Item | None]
    roots: Sequence[int]
    field: str


def characters(ranges: Iterable[tuple[int, int]], *, is_negated: bool) -> Characters:
    """The set of these ranges, or of all other characters."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    if not is_negated:
        return Characters(tuple(joined))
    others, begin = [], 0
    for low, high in joined:
        if begin < low:
            others.append((begin, low - 1))
        begin = high + 1
    if begin <= LAST_CHARACTER:
        others.append((begin, LAST_CHARACTER))
    return Characters(tuple(others))


def assembled(rules: dict[str, Alternatives], field: str) -> Grammar:
    """The grammar of these rules, from "root" on. Raises InvalidInputError.

    A rule that calls itself before it reads a character would be followed for ever.
    """
    if "root" not in rules:
        raise InvalidInputError(f"{field} has no rule 'root'")
    missing = next((call.rule for call in _calls(rules) if call.rule not in rules), None)
    if missing is not None:
        raise InvalidInputError(f"{field}: rule '{missing[:64]}' is not defined")
    _refuse_left_recursion(rules, field)
    elements: list[Item | None] = []
    begins: dict[str, list[int]] = {}
    for name, alternatives in rules.items():
        begins[name] = []
        for items in alternatives:
            begins[name].append(len(elements))
            elements += [*items, None]
    for call in _calls(rules):
        call.alternatives[:] = begins[call.rule]
    return Grammar(elements, begins["root"], field)


def _calls(rules: dict[str, Alternatives]) -> Iterable[Call]:
    return (
        item
        for alternatives in rules.values()
        for items in alternatives
        for item in items
        if isinstance(item, Call)
    )


def _refuse_left_recursion(rules: dict[str, Alternatives], field: str) -> None:
    leads = _leading_calls(rules, _rules_that_may_be_empty(rules))
    done: set[str] = set()
    for first in rules:
        path, on_path = [(first, iter(leads[first]))], {first}
        while path and first not in done:
            name, following = path[-1]
            called = next((one for one in following if one not in done), None)
            if called is None:
                path.pop()
                on_path.discard(name)
                done.add(name)
            elif called in on_path:
                shown = next((one for one in (called, name, first) if not one.startswith("_ ")), "root")
                raise InvalidInputError(
                    f"{field}: rule '{shown[:64]}' begins with itself, or repeats what may be empty"
                )
            else:
                path.append((called, iter(leads[called])))
                on_path.add(called)


def _leading_calls(rules: dict[str, Alternatives], empty: set[str]) -> dict[str, list[str]]:
    """The rules that each rule may call before it reads a character."""
    leads: dict[str, list[str]] = {}
    for name, alternatives in rules.items():
        found = leads[name] = []
        for items in alternatives:
            for item in items:
                if not isinstance(item, Call):
                    break
                found.append(item.rule)
                if item.rule not in empty:
                    break
    return leads


def _rules_that_may_be_empty(rules: dict[str, Alternatives]) -> set[str]:
    """The rules that match the empty text; linear in the size of the grammar."""
    waiting: dict[str, list[tuple[str, int]]] = {}
    missing: dict[tuple[str, int], int] = {}
    found: list[str] = []
    for name, alternatives in rules.items():
        for index, items in enumerate(alternatives):
            if any(not isinstance(item, Call) for item in items):
                continue
            missing[name, index] = len(items)
            for item in items:
                waiting.setdefault(item.rule, []).append((name, index))  # type: ignore[union-attr]
            if not items:
                found.append(name)
    empty: set[str] = set()
    while found:
        name = found.pop()
        if name in empty:
            continue
        empty.add(name)
        for key in waiting.get(name, ()):
            missing[key] -= 1
            if not missing[key]:
                found.append(key[0])
    return empty
