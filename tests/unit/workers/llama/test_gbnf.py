"""GBNF is read and followed as llama.cpp means it, and no grammar takes more than its share."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_mesh.errors import InvalidInputError
from workers.llama.gbnf.parser import MAX_GRAMMAR_BYTES, caller_grammar
from workers.llama.gbnf.state import GrammarState

DOUBLING = "\n".join(f"a{level + 1} ::= a{level} a{level}" for level in range(40))
NULLABLE = f'a0 ::= "x"?\n{DOUBLING}'


def state(text: str) -> GrammarState:
    return GrammarState(caller_grammar(text, "grammar"))


def matches(text: str, answer: str) -> bool:
    """True if the answer, given byte by byte, is a whole text of the grammar."""
    following = state(text)
    for byte in answer.encode():
        piece = bytes([byte])
        if not following.allows(piece):
            return False
        following.accept(piece)
    return following.may_end


@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        ('root ::= "yes" | "no"', ["yes", "no"], ["", "ye", "yesno", "maybe"]),
        ('root ::= [a-c]+ "-"? [^0-9]*', ["a", "ab-", "c-xyz", "a-é\n"], ["", "-", "a-1"]),
        ('root ::= "a"{2} "b"{1,} "c"{0,2}', ["aab", "aabbcc"], ["ab", "aabccc", "aaab"]),
        ('root ::= ( item\n  ("," item)* )? # a list\nitem ::= [0-9]\n', ["", "1", "1,2,3"], ["1,", ","]),
        ('root ::= "(" root ")" |', ["", "((()))"], ["(", "(()"]),
        (r'root ::= "\x41\u00e9\U0001F436\n\"\\" [\]\-]', ['Aé🐶\n"\\]', 'Aé🐶\n"\\-'], ["Aé"]),
        ("root ::= . .", ["é🐶"], ["é", "abc"]),
        ('root::="a"|a-b\na-b::="b"', ["a", "b"], ["c"]),
        ('root ::= "a" | "ab" | "abc"', ["a", "ab", "abc"], ["abcd"]),
        ('root ::= "x"{0}', [""], ["x"]),
    ],
)
def test_a_text_is_taken_if_the_grammar_has_it_and_only_then(
    grammar: str, good: list[str], bad: list[str]
) -> None:
    assert [matches(grammar, text) for text in good] == [True] * len(good)
    assert [matches(grammar, text) for text in bad] == [False] * len(bad)


@pytest.mark.parametrize(
    "grammar",
    [
        "",
        "root",
        "root ::=  |\nroot ::=",
        "top ::= [a]",
        'root ::= "a',
        "root ::= [a",
        "root ::= [z-a]",
        r'root ::= "\q"',
        r'root ::= "\xZZ"',
        r'root ::= "\UFFFFFFFF"',
        "root ::= missing",
        "root ::= (",
        'root ::= "a" )',
        'root ::= "a"**',
        'root ::= "a"{2,1}',
        'root ::= "a"{3000}',
        'root ::= "a"{999999999999999999999}',
        "root ::= <think>",
        "root ::= " + "(" * 500 + '"a"' + ")" * 500,
        'root ::= root "a" | "a"',
        'root ::= a\na ::= b "x"\nb ::= a | "y"',
        'root ::= ("a"*)*',
        'root ::= e root | "b"\ne ::= ""',
        "\n".join(f'r{number} ::= "a"' for number in range(5000)),
        'root ::= "' + "a" * MAX_GRAMMAR_BYTES + '"',
        "root ::= (([a-z]{1,1000}){1,1000}){1,1000}".replace("1,", "0,"),
        f"root ::= a40\n{NULLABLE}",
    ],
)
def test_a_grammar_that_is_wrong_or_too_large_is_refused_by_name(grammar: str) -> None:
    with pytest.raises(InvalidInputError, match="grammar"):
        state(grammar)


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        ('root ::= "a" root "b" | "a" root "c" | ""', "a" * 200),
        (f'root ::= "y" a40\n{NULLABLE}', "y"),
        (
            'root ::= s s s s s s s s\ns ::= ("a" | "aa" | "a" s "b" | "aa" s "c")*'.replace(")*", ")"),
            "a" * 200,
        ),
    ],
)
def test_a_text_that_fits_in_more_ways_than_memory_holds_ends_the_answer(grammar: str, text: str) -> None:
    following = state(grammar)
    with pytest.raises(InvalidInputError, match="ambiguous"):
        following.allows(text.encode())


def test_a_token_may_end_within_a_character_that_the_grammar_allows() -> None:
    following = state("root ::= [а-я]+")  # noqa: RUF001 - Cyrillic
    assert following.allows(b"\xd0")
    assert not following.allows(b"\xc3")
    following.accept(b"\xd0")
    assert not following.may_end
    assert following.first_bytes().nonzero()[0].tolist() == list(range(0x80, 0xC0))
    assert not following.allows(b"a")
    following.accept(b"\xb0")
    assert following.may_end


@pytest.mark.parametrize("piece", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5", b""])
def test_what_is_no_utf8_is_never_allowed(piece: bytes) -> None:
    assert not state("root ::= [^a]*").allows(piece)


def test_first_bytes_are_those_of_the_characters_that_may_come() -> None:
    found = state('root ::= "a" | [é-ë] | [🐶]').first_bytes().nonzero()[0].tolist()
    assert found == [ord("a"), 0xC3, 0xF0]


def test_what_is_not_allowed_cannot_be_accepted() -> None:
    with pytest.raises(ValueError, match="does not allow"):
        state('root ::= "a"').accept(b"b")


def test_a_long_answer_takes_no_more_room_than_its_depth_needs() -> None:
    following = state('root ::= item*\nitem ::= [a-z]+ " " | "(" root ")"')
    for _ in range(30_000):
        following.accept(b"(a )b ")
    assert following.remembered < 1000


def test_deep_nesting_is_followed_to_its_end() -> None:
    following = state('root ::= "[" root "]" |')
    for piece in [b"[[[["] * 20_000 + [b"]]]]"] * 20_000:
        following.accept(piece)
    assert following.may_end


SIMPLE = st.recursive(
    st.sampled_from(["a", "b", "c"]).map(lambda letter: (letter, f'"{letter}"')),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: (pair[0][0] + pair[1][0], f"{pair[0][1]} {pair[1][1]}")),
        st.tuples(inner, inner).map(
            lambda pair: (f"(?:{pair[0][0]}|{pair[1][0]})", f"({pair[0][1]} | {pair[1][1]})")
        ),
        inner.map(lambda one: (f"(?:{one[0]})?", f"({one[1]})?")),
        inner.map(lambda one: (f"(?:a(?:{one[0]}))*", f'("a" ({one[1]}))*')),
        inner.map(lambda one: (f"(?:{one[0]}){{1,3}}", f"({one[1]}){{1,3}}")),
    ),
    max_leaves=8,
)


@pytest.mark.fuzz
@given(SIMPLE, st.text("abc", max_size=8))
def test_a_grammar_of_a_regular_expression_takes_what_that_takes(both: tuple[str, str], text: str) -> None:
    expression, grammar = both
    assert matches(f"root ::= {grammar}", text) == bool(re.fullmatch(expression, text))


@pytest.mark.fuzz
@given(
    st.text(st.sampled_from('root ::=ab"[]()*+?{}|,.^-\\\n#019<>'), max_size=60),
    st.binary(max_size=12),
)
def test_any_text_is_a_grammar_or_refused(text: str, answer: bytes) -> None:
    try:
        following = state(f"root ::= {text}")
        following.accept(answer)
    except (InvalidInputError, ValueError):
        return
    assert following.first_bytes().any() or following.may_end
