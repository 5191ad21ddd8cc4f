"""Calls are read out of a text however it is cut; what is none stays text."""

from __future__ import annotations

import itertools

import pytest

from workers.llama.text_stream import Piece
from workers.llama.tools.call_stream import CallPiece, ToolCallStream
from workers.llama.tools.style import STYLES, ToolStyle, style_of

HERMES, NAMED, MISTRAL, PHI, LLAMA = STYLES
ROME = '{"city": "Rome"}'
NAMES = frozenset({"get_weather", "add"})
CALL = '{"name": "get_weather", "arguments": {"city": "Rome"}}'

Seen = tuple[str, list[tuple[str, str]]]


def stream(style: ToolStyle) -> ToolCallStream:
    numbers = itertools.count(1)
    return ToolCallStream(style, NAMES, lambda: f"call{next(numbers)}")


def sent(style: ToolStyle, pieces: list[str]) -> list[CallPiece]:
    """What leaves after each piece, the last at the end; token i is piece i."""
    under_test = stream(style)
    found = [under_test.add(Piece(text, (index,))) for index, text in enumerate(pieces)]
    return [*found, under_test.end(Piece())]


def seen(style: ToolStyle, pieces: list[str]) -> Seen:
    """The whole text, and name and arguments of each call."""
    found = sent(style, pieces)
    assert [token for piece in found for token in piece.tokens] == list(range(len(pieces)))
    calls = [(call.name, call.arguments) for piece in found for call in piece.calls]
    return "".join(piece.text for piece in found), calls


CASES: list[tuple[ToolStyle, str, Seen]] = [
    (HERMES, f"<tool_call>\n{CALL}\n</tool_call>", ("", [("get_weather", ROME)])),
    (HERMES, f"I look. <tool_call>{CALL}</tool_call>", ("I look. ", [("get_weather", ROME)])),
    (
        HERMES,
        f'<tool_call>{CALL}</tool_call>\n<tool_call>{{"name":"add","arguments":{{"a":1,"b":[2]}}}}</tool_call>',
        ("", [("get_weather", ROME), ("add", '{"a": 1, "b": [2]}')]),
    ),
    (HERMES, f"<tool_call>{CALL}", ("", [("get_weather", ROME)])),
    (HERMES, f"<tool_call>{CALL}</tool_call> Done.", (" Done.", [("get_weather", ROME)])),
    (
        HERMES,
        '<tool_call>{"name": "add", "arguments": {"x": "</tool_call> \\" }"}}</tool_call>',
        ("", [("add", '{"x": "</tool_call> \\" }"}')]),
    ),
    (MISTRAL, f"[TOOL_CALLS] [{CALL}, {CALL}]", ("", [("get_weather", ROME)] * 2)),
    (NAMED, f"[TOOL_CALLS]get_weather[ARGS]{ROME}", ("", [("get_weather", ROME)])),
    (
        NAMED,
        f"[TOOL_CALLS]add[CALL_ID]x1[ARGS]{ROME}[TOOL_CALLS]add[ARGS]{{}}",
        ("", [("add", ROME), ("add", "{}")]),
    ),
    (PHI, f"<|tool_call|>[{CALL}]<|/tool_call|>", ("", [("get_weather", ROME)])),
    (LLAMA, '{"name": "add", "parameters": {"a": 1}}', ("", [("add", '{"a": 1}')])),
    (LLAMA, '\n<|python_tag|>{"name": "add", "parameters": {}}', ("\n", [("add", "{}")])),
    (
        LLAMA,
        '{"name": "add", "parameters": {}}; {"name": "add", "parameters": {"a": 2}}',
        ("", [("add", "{}"), ("add", '{"a": 2}')]),
    ),
    (
        HERMES,
        '<tool_call>{"name": "add", "arguments": {"a": 12345678901234567890123}}',
        ("", [("add", '{"a": 12345678901234567890123}')]),
    ),
]

NO_CALLS: list[tuple[ToolStyle, str]] = [
    (HERMES, "Just <b>text</b> with <tool_ in it"),
    (HERMES, "<tool_call>none</tool_call>"),
    (HERMES, '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>'),
    (HERMES, '<tool_call>{"name": "add", "arguments": "text"}</tool_call>'),
    (HERMES, '<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>'),
    (HERMES, '<tool_call>{"name": "add", "arguments": {"a": "\\ud800"}}</tool_call>'),
    (HERMES, '<tool_call>{"name": "add", "arguments": {"a"}}</tool_call>'),
    (HERMES, '<tool_call>{"name": "add", "argum'),
    (HERMES, "<tool_call>"),
    (HERMES, "<tool_call>" * 20),
    (MISTRAL, "[TOOL_CALLS] add"),
    (NAMED, "[TOOL_CALLS]" + "x" * 300),
    (LLAMA, '{"city": "Rome"} is JSON'),
    (LLAMA, 'Here: {"name": "add", "parameters": {}}'),
    (LLAMA, '<|python_tag|>brave_search.call(query="x")'),
]


@pytest.mark.parametrize("width", [1, 3, 7, 1000])
@pytest.mark.parametrize(("style", "text", "expected"), CASES)
def test_calls_are_found_wherever_the_text_is_cut(
    style: ToolStyle, text: str, expected: Seen, width: int
) -> None:
    pieces = [text[at : at + width] for at in range(0, len(text), width)]
    assert seen(style, pieces) == expected


@pytest.mark.parametrize("width", [1, 3, 7, 1000])
@pytest.mark.parametrize(("style", "text"), NO_CALLS)
def test_what_is_no_valid_call_of_a_known_function_is_sent_as_text(
    style: ToolStyle, text: str, width: int
) -> None:
    pieces = [text[at : at + width] for at in range(0, len(text), width)]
    assert seen(style, pieces) == (text, [])


def test_a_call_is_sent_whole_with_its_last_bracket_and_all_of_its_tokens() -> None:
    pieces = ["Ok. ", "<tool", "_call>", CALL[:20], CALL[20:], "\n</tool_call>"]
    found = sent(HERMES, pieces)
    assert [piece.tokens for piece in found] == [(0,), (), (), (), (1, 2, 3, 4), (5,), ()]
    assert [len(piece.calls) for piece in found] == [0, 0, 0, 0, 1, 0, 0]
    assert "".join(piece.text for piece in found) == "Ok. "


def test_text_that_cannot_begin_a_call_is_not_held() -> None:
    assert [piece.text for piece in sent(HERMES, ["a", "b <", "c"])] == ["a", "", "b <c", ""]


def test_an_answer_that_goes_on_behind_a_call_knows_that_there_was_one() -> None:
    under_test = stream(HERMES)
    under_test.pass_over(f"<tool_call>{CALL}")
    assert under_test.made_calls
    assert under_test.add(Piece("</tool_call>", (9,))) == CallPiece("", (9,))


@pytest.mark.parametrize(
    ("template", "style"),
    [
        ("{% if tools %}<tool_call>{% endif %}", HERMES),
        ("[TOOL_CALLS] {{ tools }}", MISTRAL),
        ("[TOOL_CALLS] {{ tools }}[ARGS]", NAMED),
        ("<|python_tag|>", LLAMA),
        ('Respond in the format {"name": function name, "parameters": dictionary}', LLAMA),
        ("<tool_call><function=name>", None),
        ("{{ tools }}", None),
    ],
)
def test_the_template_tells_how_a_model_writes_calls(template: str, style: ToolStyle | None) -> None:
    assert style_of(template) is style
