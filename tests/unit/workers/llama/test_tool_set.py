"""A required call is written as its model writes calls, and read again as the call that it is."""

from __future__ import annotations

import json

import pytest

from inference_mesh.v1 import payload_pb2
from workers.llama.gbnf.parser import parsed_grammar
from workers.llama.gbnf.state import GrammarState
from workers.llama.text_stream import Piece
from workers.llama.tools.call_stream import ToolCallStream, random_id
from workers.llama.tools.style import STYLES, ToolStyle
from workers.llama.tools.tool_set import ToolSet, tool_set
from workers.llama.vocabulary import Vocabulary

HERMES, NAMED, MISTRAL, PHI, LLAMA = STYLES
ADD = payload_pb2.Tool(
    name="add", parameters=json.dumps({"properties": {"a": {"enum": [1, 'q"\\']}}, "required": ["a"]})
)
NONE = payload_pb2.Tool(name="now")
CHAT = payload_pb2.Chat(messages=[payload_pb2.ChatMessage(role="user", content="hi")])
WRITTEN = {
    HERMES: '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>',
    NAMED: '[TOOL_CALLS]add[ARGS]{"a": 1}',
    MISTRAL: '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}]',
    PHI: '<|tool_call|>[{"name": "add", "arguments": {"a": 1}}]<|/tool_call|>',
    LLAMA: '{"name": "add", "parameters": {"a": 1}}',
}


def required(name: str = "") -> ToolSet:
    choice = payload_pb2.ToolChoice(mode=payload_pb2.TOOL_CHOICE_MODE_REQUIRED, name=name)
    found = tool_set(payload_pb2.Generate(chat=CHAT, tools=[ADD, NONE], tool_choice=choice))
    assert found is not None
    return found


def fits(style: ToolStyle, text: str, name: str = "") -> bool:
    """True if the text is a whole call under the grammar."""
    state = GrammarState(parsed_grammar(required(name).grammar(style), "tools"))
    if not state.allows(text.encode()):
        return False
    state.accept(text.encode())
    return state.may_end


@pytest.mark.parametrize("style", STYLES)
def test_the_grammar_of_a_required_call_has_what_is_read_as_one(style: ToolStyle) -> None:
    text = WRITTEN[style]
    assert fits(style, text)
    reader = ToolCallStream(style, {"add", "now"})
    sent, left = reader.add(Piece(text, (1,))), reader.end(Piece())
    (call,) = (*sent.calls, *left.calls)
    assert (call.name, call.arguments, sent.text + left.text) == ("add", '{"a": 1}', "")


@pytest.mark.parametrize("style", STYLES)
def test_no_other_text_fits_it(style: ToolStyle) -> None:
    text = WRITTEN[style]
    for other in (text[:-1], text + "x", text.replace("1", "2"), text.replace("add", "sub"), "Hello"):
        assert not fits(style, other)
    assert fits(style, text, "add")
    assert not fits(style, text, "now")


def test_a_function_without_parameters_is_called_with_none() -> None:
    assert fits(LLAMA, '{"name": "now", "parameters": {}}')
    assert not fits(LLAMA, '{"name": "now", "parameters": {"a": 1}}')


def test_tools_are_shown_in_openais_form() -> None:
    assert required().documents()[1] == {
        "type": "function",
        "function": {"name": "now", "parameters": {"type": "object", "properties": {}}},
    }


def test_ids_are_short_and_differ() -> None:
    ids = {random_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(one) == 9 and one.isalnum() for one in ids)


def test_the_mark_of_a_call_may_be_a_control_token() -> None:
    vocabulary = Vocabulary([b"", b"", b"a"], frozenset({0}), {0: "</s>", 1: "[TOOL_CALLS]"})
    told = vocabulary.telling(MISTRAL.marks)
    assert list(told.pieces) == [b"", b"[TOOL_CALLS]", b"a"]
    assert vocabulary.telling(HERMES.marks) is vocabulary
    assert told.first_bytes.tolist() == [256, ord("["), ord("a")]
