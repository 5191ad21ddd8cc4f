"""Schemas become grammars; what the grammar cannot keep is refused by name."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_mesh.errors import InvalidInputError
from workers.llama.integer_grammar import integer_between
from workers.llama.json_grammar import MAX_SCHEMA_BYTES, json_grammar


def pattern(grammar: str) -> re.Pattern[str]:
    """A regular expression of the same texts; for grammars without recursion."""
    rules = dict(line.split(" ::= ", 1) for line in grammar.splitlines())
    word = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|[a-z][a-z0-9]*|\s+|.')

    def convert(expression: str) -> str:
        parts = []
        for found in word.findall(expression):
            if found.startswith('"'):
                parts.append(f"(?:{re.escape(unescaped(found[1:-1]))})")
            elif found[0].isalpha() and found in rules:
                parts.append(f"(?:{convert(rules[found])})")
            elif not found.isspace():
                parts.append(found)
        return "".join(parts)

    return re.compile(convert(rules["root"]))


def unescaped(literal: str) -> str:
    """The text that a literal of a grammar stands for."""
    return re.sub(r"\\(.)", r"\1", literal)


def accepts(schema: object, *texts: str) -> list[bool]:
    """Whether the schema's grammar takes each text."""
    compiled = pattern(json_grammar(json.dumps(schema)))
    return [compiled.fullmatch(text) is not None for text in texts]


@given(
    st.one_of(st.none(), st.integers(-1200, 1200)),
    st.one_of(st.none(), st.integers(-1200, 1200)),
    st.integers(-1500, 1500),
)
def test_an_integer_range_takes_exactly_its_numbers(low: int | None, high: int | None, value: int) -> None:
    if low is not None and high is not None and low > high:
        low, high = high, low
    compiled = pattern(f"root ::= {integer_between(low, high)}")
    is_inside = (low is None or low <= value) and (high is None or value <= high)
    assert (compiled.fullmatch(str(value)) is not None) == is_inside


def test_integers_have_no_leading_zeros() -> None:
    assert accepts({"type": "integer", "minimum": 0, "maximum": 99}, "7", "07", "-0") == [True, False, False]


def test_exclusive_limits_are_exclusive() -> None:
    schema = {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 6}
    assert accepts(schema, "3", "4", "5", "6") == [False, True, True, False]


def test_an_object_has_its_required_members_and_any_of_the_others_in_order() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}, "c": {"type": "null"}},
        "required": ["b"],
    }
    good = ['{"b":true}', '{"b": true, "a": 1}', '{"b":false,"a":1,"c":null}', '{"b":true,"c":null}']
    bad = ["{}", '{"a":1}', '{"b":1}', '{"b":true,"d":1}', '{"b":true,}', '{,"b":true}']
    assert accepts(schema, *good, *bad) == [True] * 4 + [False] * 6


def test_an_object_may_have_optional_members_only() -> None:
    schema = {"properties": {"a": {"type": "null"}, "b": {"type": "null"}, "c": {"type": "null"}}}
    good = ["{}", '{"a":null}', '{"c":null}', '{"a":null,"c":null}', '{"a":null,"b":null,"c":null}']
    bad = ['{"a":null"b":null}', '{,"b":null}', '{"b":null,"a":null}']
    assert accepts(schema, *good, *bad) == [True] * 5 + [False] * 3


def test_counts_of_items_and_characters_are_kept() -> None:
    array = {"type": "array", "items": {"type": "null"}, "minItems": 1, "maxItems": 2}
    assert accepts(array, "[]", "[null]", "[null,null]", "[null,null,null]") == [False, True, True, False]
    string = {"type": "string", "minLength": 2, "maxLength": 3}
    assert accepts(string, '"a"', '"ab"', '"a\\n€"', '"abcd"') == [False, True, True, False]
    assert accepts({"type": "array", "maxItems": 0}, "[]", "[1]") == [True, False]


def test_texts_with_quotes_backslashes_and_other_scripts_are_taken_literally() -> None:
    values = ['say "hi"', "back\\slash", "line\nbreak", "Grüße 🐶"]
    texts = [json.dumps(value, ensure_ascii=False) for value in values]
    assert accepts({"enum": values}, *texts) == [True] * 4
    assert accepts({"const": {"a": [1, None]}}, '{"a": [1, null]}') == [True]


def test_an_enum_is_limited_to_the_schemas_type() -> None:
    assert accepts({"type": "string", "enum": ["a", None, 1]}, '"a"', "null", "1") == [True, False, False]


def test_alternatives_and_lists_of_types_are_alternatives() -> None:
    schema = {"anyOf": [{"type": "null"}, {"type": "integer"}]}
    assert accepts(schema, "null", "12", "true") == [True, True, False]
    assert accepts({"type": ["null", "boolean"]}, "null", "true", "1") == [True, True, False]


def test_each_of_several_types_keeps_its_own_keywords() -> None:
    schema = {"type": ["integer", "null"], "minimum": 3, "maximum": 12}
    assert accepts(schema, "null", "3", "12", "13") == [True, True, True, False]


def test_references_within_the_schema_are_followed() -> None:
    schema = {
        "$defs": {"n": {"type": "null"}},
        "type": "array",
        "items": {"$ref": "#/$defs/n"},
        "maxItems": 1,
    }
    assert accepts(schema, "[null]", "[1]") == [True, False]


def test_a_recursive_schema_becomes_a_recursive_grammar() -> None:
    tree = {"type": "object", "properties": {"child": {"$ref": "#"}}}
    assert "root ::=" in json_grammar(json.dumps(tree))


def test_dates_are_kept_and_other_formats_are_annotations() -> None:
    assert accepts({"type": "string", "format": "date"}, '"2024-02-29"', '"2024-13-01"') == [True, False]
    assert accepts({"type": "string", "format": "email"}, '"not checked"') == [True]


@pytest.mark.parametrize(
    "schema",
    [
        "not json",
        "[]",
        "7",
        '{"type": "thing"}',
        '{"type": "string", "pattern": "a+"}',
        '{"type": "number", "minimum": 1}',
        '{"type": "object", "minProperties": 1}',
        '{"allOf": [{}]}',
        '{"not": {}}',
        '{"enum": []}',
        '{"type": "string", "enum": [1]}',
        '{"type": "array", "maxItems": 1000000000}',
        '{"type": "string", "minLength": -1}',
        '{"type": "string", "minLength": 5, "maxLength": 2}',
        '{"type": "integer", "minimum": 5, "maximum": 2}',
        '{"type": "integer", "minimum": 0.5}',
        '{"$ref": "https://example.com/schema"}',
        '{"$ref": "#/$defs/missing"}',
        '{"$ref": "#"}',
        '{"anyOf": [{"type": "null"}], "type": "object", "properties": {}}',
        '{"type": "object", "properties": []}',
        '{"type": "object", "properties": {"a": false}}',
        '{"type": "array", "items": ' * 40 + "{}" + "}" * 40,
        json.dumps({"description": "x" * MAX_SCHEMA_BYTES}),
        json.dumps({"properties": {f"p{at}": {"type": "string", "maxLength": 900} for at in range(5)}}),
    ],
)
def test_what_cannot_be_kept_is_refused(schema: str) -> None:
    with pytest.raises(InvalidInputError):
        json_grammar(schema)
