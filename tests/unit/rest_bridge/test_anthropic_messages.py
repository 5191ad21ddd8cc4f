"""A message in Anthropic's form becomes our call, and our answer a message in Anthropic's form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inference_mesh.errors import OverloadedError, StreamBrokenError, UnauthenticatedError, UnavailableError
from inference_mesh.v1 import inference_pb2, payload_pb2
from rest_bridge.anthropic.errors import error_document
from rest_bridge.anthropic.messages import read_message
from rest_bridge.dialect_endpoint import Asked
from rest_bridge.event_stream import EventForm
from rest_bridge.fields import Fields, InvalidFieldError, UnsupportedFieldError

HELLO = {"model": "chat", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}
STOP = payload_pb2.FINISH_REASON_STOP


def asked(**fields: Any) -> Asked:
    """What a message with these fields asks for."""
    return read_message(Fields({**HELLO, **fields}), "r1")


def generate(**fields: Any) -> payload_pb2.Generate:
    """The payload of a message with these fields."""
    (payload,) = asked(**fields).payloads
    return payload.generate


def answered(generated: payload_pb2.Generated, **fields: Any) -> Any:
    """The answer to a message with these fields."""
    usage = payload_pb2.Usage(prompt_tokens=5, completion_tokens=2, cached_tokens=4)
    response = inference_pb2.InferResponse(
        model="tiny", output=payload_pb2.Output(generate=generated), usage=usage
    )
    return asked(**fields).document([response])


def events(form: EventForm | None, *pieces: payload_pb2.Generated) -> list[Any]:
    """The events of a stream as documents; their names are the documents' own types."""
    assert form is not None
    responses = [inference_pb2.InferStreamResponse(output=payload_pb2.Output(generate=one)) for one in pieces]
    data = b"".join(form.events_of(response) for response in responses) + form.end()
    documents = []
    for event in data.decode().removesuffix("\n\n").split("\n\n"):
        name, body = event.split("\n")
        documents.append(json.loads(body.removeprefix("data: ")))
        assert name == f"event: {documents[-1]['type']}"
    return documents


def test_the_system_text_is_the_first_message_and_blocks_are_one_text() -> None:
    blocks = [
        {"type": "text", "text": "Be ", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "brief."},
    ]
    message = generate(system=blocks, temperature=0, top_k=3, stop_sequences=["."])
    assert [(one.role, one.content) for one in message.chat.messages] == [
        ("system", "Be brief."),
        ("user", "Hello"),
    ]
    assert (message.max_tokens, message.sampling.top_k, list(message.stop)) == (9, 3, ["."])
    assert message.sampling.HasField("temperature")


def test_calls_and_what_they_gave_become_messages_of_their_own() -> None:
    call = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}
    given = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "sunny"}]}
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [{"type": "text", "text": "I ask."}, call]},
        {"role": "user", "content": [given, {"type": "text", "text": "Well?"}]},
    ]
    _, assistant, tool, user = generate(messages=messages).chat.messages
    assert (assistant.content, assistant.tool_calls[0].arguments) == ("I ask.", '{"a":1}')
    assert (tool.role, tool.content, tool.tool_call_id) == ("tool", "sunny", "t1")
    assert (user.role, user.content) == ("user", "Well?")


@pytest.mark.parametrize(
    ("choice", "mode", "name"),
    [
        ({"type": "auto"}, payload_pb2.TOOL_CHOICE_MODE_AUTO, ""),
        ({"type": "any"}, payload_pb2.TOOL_CHOICE_MODE_REQUIRED, ""),
        ({"type": "tool", "name": "f"}, payload_pb2.TOOL_CHOICE_MODE_REQUIRED, "f"),
        ({"type": "none"}, payload_pb2.TOOL_CHOICE_MODE_NONE, ""),
    ],
)
def test_the_choice_among_tools(choice: dict[str, str], mode: payload_pb2.ToolChoiceMode, name: str) -> None:
    tools = [{"name": "f", "description": "d", "input_schema": {"type": "object"}}]
    message = generate(tools=tools, tool_choice=choice)
    assert (message.tool_choice.mode, message.tool_choice.name) == (mode, name)
    assert message.tools[0] == payload_pb2.Tool(name="f", description="d", parameters='{"type":"object"}')


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"temperature": 1.5}, "temperature"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"model": None}, "model"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        asked(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "fields",
    [
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedFieldError):
        asked(**fields)


def test_an_answer_has_blocks_a_reason_and_usage_with_cached_tokens_apart() -> None:
    call = payload_pb2.ToolCall(id="t1", name="f", arguments='{"a": 1}')
    generated = payload_pb2.Generated(
        text="I ask.", tool_calls=[call], finish_reason=payload_pb2.FINISH_REASON_TOOL_CALLS
    )
    assert answered(generated) == {
        "id": "msg_r1",
        "type": "message",
        "role": "assistant",
        "model": "tiny",
        "content": [
            {"type": "text", "text": "I ask."},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 1,
            "output_tokens": 2,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 4,
        },
    }


def test_the_reason_tells_the_callers_stop_text_from_the_models_own_end() -> None:
    stopped = answered(payload_pb2.Generated(text="Hi", finish_reason=STOP, stop_text="."))
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", ".")
    ended = answered(payload_pb2.Generated(text="Hi", finish_reason=STOP))
    assert (ended["stop_reason"], ended["stop_sequence"]) == ("end_turn", None)
    cut = answered(payload_pb2.Generated(text="Hi", finish_reason=payload_pb2.FINISH_REASON_LENGTH))
    assert cut["stop_reason"] == "max_tokens"


def test_a_stream_opens_and_closes_each_block_in_order() -> None:
    call = payload_pb2.ToolCall(id="t1", name="f", arguments='{"a": 1}')
    documents = events(
        asked(stream=True).events,
        payload_pb2.Generated(text="I "),
        payload_pb2.Generated(text="ask.", tool_calls=[call]),
        payload_pb2.Generated(finish_reason=payload_pb2.FINISH_REASON_TOOL_CALLS),
    )
    assert [(document["type"], document.get("index")) for document in documents] == [
        ("message_start", None),
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
        ("message_delta", None),
        ("message_stop", None),
    ]
    assert documents[6]["delta"] == {"type": "input_json_delta", "partial_json": '{"a": 1}'}
    assert documents[8]["delta"]["stop_reason"] == "tool_use"


def test_a_stream_that_breaks_ends_with_an_error_event_and_no_message_stop() -> None:
    form = asked(stream=True).events
    assert form is not None
    body = form.failure(StreamBrokenError("broke"), 1)
    assert body.startswith(b"event: error\n")
    assert b"message_stop" not in body


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UnauthenticatedError(), "authentication_error"),
        (OverloadedError("full"), "rate_limit_error"),
        (UnavailableError("nobody"), "overloaded_error"),
        (InvalidFieldError("wrong", "x"), "invalid_request_error"),
    ],
)
def test_an_error_has_the_type_that_clients_know(error: Any, kind: str) -> None:
    document: Any = error_document(error)
    assert (document["type"], document["error"]["type"]) == ("error", kind)
