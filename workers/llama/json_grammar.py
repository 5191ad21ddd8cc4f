"""A GBNF grammar from a JSON Schema: every text of the grammar matches the schema.

Owns the supported subset of draft 2020-12; what is outside of it is refused by name and never
ignored, so that an answer keeps what the schema promises. Objects have the listed properties
in their order and no others. oneOf is taken as anyOf.
Source of the grammar's form: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from inference_mesh import strict_json
from inference_mesh.errors import InvalidInputError
from workers.llama.integer_grammar import integer_between

MAX_SCHEMA_BYTES = 64 << 10
MAX_DEPTH = 32
MAX_RULES = 2_000
MAX_REPETITIONS = 1_000

_ANNOTATIONS = {
    "$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples",
    "deprecated", "readOnly", "writeOnly", "format",
}  # fmt: skip
_BY_TYPE = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "number": set[str](),
    "boolean": set[str](),
    "null": set[str](),
}
_PYTHON_TYPES: dict[object, type] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": float, "boolean": bool,
    "null": type(None),
}  # fmt: skip
_ELSEWHERE = {"type", "enum", "const", "anyOf", "oneOf", "$ref"}

_SHARED_RULES = {
    "char": r'[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})',
    "string": r'"\"" char* "\""',
    "digits": "[0-9]{1,15}",
    "integer": '"-"? ("0" | [1-9] [0-9]{0,14})',
    "number": 'integer ("." digits)? ([eE] [-+]? [0-9]{1,2})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "sp": '" "?',
    "member": 'string ":" sp value',
    "object": '"{" (member ("," sp member)*)? "}"',
    "array": '"[" (value ("," sp value)*)? "]"',
    "value": "object | array | string | number | boolean | null",
    "year": "[0-9]{4}",
    "date": 'year "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])',
    "time": '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] "Z"',
    "uuid": '[0-9a-f]{8} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{12}',
}
_FORMATS = {"date": "date", "time": "time", "date-time": 'date "T" time', "uuid": "uuid"}
"""Formats that are kept; others are annotations, as the draft has it."""


def json_grammar(schema: str) -> str:
    """GBNF whose root matches the schema. Raises InvalidInputError naming what is wrong."""
    root, rules = schema_rules(schema, "json_schema", "r")
    return gbnf(root, rules)


def gbnf(root: str, rules: Mapping[str, str]) -> str:
    """The text of a grammar, with the rules that schemas share. root: an expression."""
    named = {"root": root, **rules, **_SHARED_RULES}
    return "\n".join(f"{name} ::= {expression}" for name, expression in named.items())


def schema_rules(schema: str, field: str, prefix: str) -> tuple[str, dict[str, str]]:
    """An expression that matches the schema, and the rules that it needs, by name.

    field: of the request, for errors. prefix: of the rules' names. Raises InvalidInputError.
    """
    if len(schema.encode()) > MAX_SCHEMA_BYTES:
        raise InvalidInputError(f"{field} is larger than {MAX_SCHEMA_BYTES} bytes")
    try:
        document = strict_json.loads(schema.encode())
    except InvalidInputError as error:
        raise InvalidInputError(f"{field} is not JSON: {error.message}") from error
    grammar = _Grammar(document, field, prefix)
    return grammar.expression(document, field, 0), grammar.rules


class _Grammar:
    """The rules made so far for one schema document."""

    def __init__(self, document: object, field: str, prefix: str) -> None:
        self._document = document
        self._field = field
        self._prefix = prefix
        self.rules: dict[str, str] = {}
        self._references: dict[str, str] = {}
        self._repetitions = 0

    def expression(self, schema: object, where: str, depth: int) -> str:
        """The grammar expression of one schema; `where` names it in errors."""
        if depth > MAX_DEPTH:
            raise InvalidInputError(f"{self._field} is nested deeper than {MAX_DEPTH}")
        if schema is True:
            return "value"
        if not isinstance(schema, Mapping):
            raise InvalidInputError(f"{where} must be an object or true")
        _refuse_unknown(schema, where)
        if "$ref" in schema:
            return self._reference(schema["$ref"], where, depth)
        if "const" in schema:
            return literal(schema["const"])
        if "enum" in schema:
            return self._rule(" | ".join(literal(item) for item in _enumerated(schema, where)))
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self._either(_list(schema[key], f"{where}.{key}"), f"{where}.{key}", depth)
        return self._by_type(schema, where, depth)

    def _by_type(self, schema: Mapping[str, object], where: str, depth: int) -> str:
        kind = schema.get("type", _implied_type(schema))
        if isinstance(kind, list):
            options = [_for_type(schema, item) for item in _list(kind, f"{where}.type")]
            return self._either(options, where, depth)
        if kind is None:
            return "value"
        if kind == "object":
            return self._object(schema, where, depth)
        if kind == "array":
            return self._array(schema, where, depth)
        if kind == "string":
            return self._string(schema, where)
        if kind == "integer":
            return self._rule(_integer(schema, where))
        if kind not in _BY_TYPE:
            raise InvalidInputError(f"{where}.type is {kind!r}; allowed: {', '.join(sorted(_BY_TYPE))}")
        return str(kind)

    def _either(self, schemas: Sequence[object], where: str, depth: int) -> str:
        options = [
            self.expression(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(schemas)
        ]
        return self._rule(" | ".join(options))

    def _reference(self, target: object, where: str, depth: int) -> str:
        if not isinstance(target, str) or not (target == "#" or target.startswith("#/")):
            raise InvalidInputError(f"{where}.$ref must point into this schema, e.g. #/$defs/name")
        if target not in self._references:
            name = self._references[target] = self._reserve()
            self.rules[name] = self.expression(self._resolve(target, where), target, depth + 1)
            _refuse_cycle(self.rules, name, f"{self._field}: {target!r}")
        return self._references[target]

    def _resolve(self, target: str, where: str) -> object:
        found: object = self._document
        for part in target.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or key not in found:
                raise InvalidInputError(f"{where}.$ref {target!r} does not exist")
            found = found[key]
        return found

    def _object(self, schema: Mapping[str, object], where: str, depth: int) -> str:
        properties = _mapping(schema.get("properties", {}), f"{where}.properties")
        required = [str(name) for name in _list(schema.get("required", []), f"{where}.required", least=0)]
        named = {**properties, **{name: True for name in required if name not in properties}}
        if not named:
            return self._map(schema.get("additionalProperties", True), where, depth)
        members = {
            name: self._rule(f'{literal(name)} ":" sp {self.expression(item, f"{where}.{name}", depth + 1)}')
            for name, item in named.items()
        }
        optional = [members[name] for name in members if name not in required]
        needed = [members[name] for name in members if name in required]
        tail = self._optional_members(optional, is_first=not needed)
        body = ' "," sp '.join(needed)
        return self._rule(f'"{{" {body} {tail} "}}"')

    def _optional_members(self, members: Sequence[str], *, is_first: bool) -> str:
        """Any of the members, in order. is_first: nothing stands before them, so no comma."""
        if not members:
            return ""
        following = [f'("," sp {member})?' for member in members]
        if not is_first:
            return " ".join(following)
        options = []
        rest = ""
        for member, with_comma in zip(reversed(members), reversed(following), strict=True):
            options.append(f"{member} {rest}")
            rest = self._rule(f"{with_comma} {rest}")
        return f"({' | '.join(reversed(options))})?"

    def _map(self, values: object, where: str, depth: int) -> str:
        if values is False:
            return '"{}"'
        value = self.expression(values, f"{where}.additionalProperties", depth + 1)
        member = self._rule(f'string ":" sp {value}')
        return self._rule(f'"{{" ({member} ("," sp {member})*)? "}}"')

    def _array(self, schema: Mapping[str, object], where: str, depth: int) -> str:
        item = self._rule(self.expression(schema.get("items", True), f"{where}.items", depth + 1))
        least, most = self._bounds(schema, "minItems", "maxItems", where)
        if most == 0:
            return '"[]"'
        further = _repeat(f'("," sp {item})', max(least - 1, 0), None if most is None else most - 1)
        body = f"{item} {further}"
        return self._rule(f'"[" {body if least else f"({body})?"} "]"')

    def _string(self, schema: Mapping[str, object], where: str) -> str:
        form = schema.get("format")
        if isinstance(form, str) and form in _FORMATS:
            return self._rule(f'"\\"" {_FORMATS[form]} "\\""')
        least, most = self._bounds(schema, "minLength", "maxLength", where)
        if least == 0 and most is None:
            return "string"
        return self._rule(f'"\\"" {_repeat("char", least, most)} "\\""')

    def _bounds(
        self, schema: Mapping[str, object], low: str, high: str, where: str
    ) -> tuple[int, int | None]:
        least = _count(schema.get(low, 0), f"{where}.{low}")
        most = _count(schema[high], f"{where}.{high}") if high in schema else None
        if most is not None and least > most:
            raise InvalidInputError(f"{where}.{low} is greater than {high}")
        self._repetitions += max(least, most or 0)
        if self._repetitions > 2 * MAX_REPETITIONS:
            raise InvalidInputError(
                f"{self._field} asks for more than {2 * MAX_REPETITIONS} counted items in all"
            )
        return least, most

    def _rule(self, expression: str) -> str:
        name = self._reserve()
        self.rules[name] = expression
        return name

    def _reserve(self) -> str:
        if len(self.rules) >= MAX_RULES:
            raise InvalidInputError(f"{self._field} needs more than {MAX_RULES} grammar rules")
        name = f"{self._prefix}{len(self.rules)}"
        self.rules[name] = ""
        return name


def _refuse_unknown(schema: Mapping[str, object], where: str) -> None:
    kinds = schema.get("type", _implied_type(schema))
    names = kinds if isinstance(kinds, list) else [kinds]
    known = _ANNOTATIONS | _ELSEWHERE
    for name in names:
        known = known | _BY_TYPE.get(str(name), set())
    unknown = sorted(set(schema) - known)
    if unknown:
        raise InvalidInputError(f"{where}: keyword {unknown[0]!r} is not supported here")
    for key in ("$ref", "const", "enum", "anyOf", "oneOf"):
        others = sorted(set(schema) - _ANNOTATIONS - {key, "type" if key in ("const", "enum") else key})
        if key in schema and others:
            raise InvalidInputError(f"{where}: {key!r} and {others[0]!r} cannot be combined")


def _enumerated(schema: Mapping[str, object], where: str) -> list[object]:
    """The values of an enum that are of the schema's type."""
    kinds = schema.get("type", list(_PYTHON_TYPES))
    names = kinds if isinstance(kinds, list) else [kinds]
    types = {_PYTHON_TYPES[name] for name in names if name in _PYTHON_TYPES}
    types |= {int} if float in types else set()
    return _list(
        [item for item in _list(schema["enum"], f"{where}.enum") if type(item) in types], f"{where}.enum"
    )


def _for_type(schema: Mapping[str, object], kind: object) -> dict[str, object]:
    """A schema of several types, for one of them: with the keywords that this one knows."""
    known = _ANNOTATIONS | _BY_TYPE.get(str(kind), set())
    return {**{key: value for key, value in schema.items() if key in known}, "type": kind}


def _implied_type(schema: Mapping[str, object]) -> str | None:
    """The type that a schema without one means by its keywords."""
    return next((kind for kind, keywords in _BY_TYPE.items() if keywords & set(schema)), None)


def _refuse_cycle(rules: Mapping[str, str], name: str, where: str) -> None:
    """A reference that leads only to itself has no text."""
    seen = set()
    while name in rules and name not in seen:
        seen.add(name)
        name = rules[name]
    if name in seen:
        raise InvalidInputError(f"{where} refers only to itself")


def _integer(schema: Mapping[str, object], where: str) -> str:
    low = _limit(schema, "minimum", "exclusiveMinimum", 1, where)
    high = _limit(schema, "maximum", "exclusiveMaximum", -1, where)
    if low is None and high is None:
        return "integer"
    if low is not None and high is not None and low > high:
        raise InvalidInputError(f"{where}: no integer lies between minimum and maximum")
    return integer_between(low, high)


def _limit(schema: Mapping[str, object], inclusive: str, exclusive: str, step: int, where: str) -> int | None:
    limits = []
    for key, add in ((inclusive, 0), (exclusive, step)):
        if key not in schema:
            continue
        value = schema[key]
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 10**15:
            raise InvalidInputError(f"{where}.{key} must be an integer of at most 15 digits")
        limits.append(value + add)
    if not limits:
        return None
    return max(limits) if step > 0 else min(limits)


def _repeat(item: str, least: int, most: int | None) -> str:
    if most == 0:
        return ""
    return f"{item}{{{least},{'' if most is None else most}}}"


def _count(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_REPETITIONS:
        raise InvalidInputError(f"{where} is {value!r}; allowed: 0 to {MAX_REPETITIONS}")
    return value


def _list(value: object, where: str, least: int = 1) -> list[object]:
    if not isinstance(value, list) or len(value) < least:
        raise InvalidInputError(f"{where} must be a list of at least {least}")
    return value


def _mapping(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"{where} must be an object")
    return value


def literal(value: object) -> str:
    """The grammar's literal of a value's JSON text."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
