"""A chat in OpenAI's form becomes our call, and our answer a chat in OpenAI's form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inference_mesh.errors import MeshError, StreamBrokenError
from inference_mesh.v1 import inference_pb2, payload_pb2
from rest_bridge.dialect_endpoint import Asked
from rest_bridge.event_stream import EventForm
from rest_bridge.fields import Fields, InvalidFieldError, UnsupportedFieldError
from rest_bridge.openai.chat import read_chat

HELLO = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def asked(**fields: Any) -> Asked:
    """What a chat with these fields asks for."""
    return read_chat(Fields({**HELLO, **fields}), "r1", 1_700_000_000)


def generate(**fields: Any) -> payload_pb2.Generate:
    """The payload of a chat with these fields."""
    (payload,) = asked(**fields).payloads
    return payload.generate


def events(form: EventForm | None, *pieces: inference_pb2.InferStreamResponse) -> list[Any]:
    """The events of a stream as documents, "[DONE]" as the text that it is."""
    assert form is not None
    data = b"".join(form.events_of(piece) for piece in pieces) + form.end()
    texts = [line.removeprefix(b"data: ") for line in data.split(b"\n\n") if line]
    return [text.decode() if text == b"[DONE]" else json.loads(text) for text in texts]


def piece(**fields: Any) -> inference_pb2.InferStreamResponse:
    """A piece of a stream."""
    return inference_pb2.InferStreamResponse(
        output=payload_pb2.Output(generate=payload_pb2.Generated(**fields))
    )


FIRST = inference_pb2.InferStreamResponse(model="tiny", version="3")
LAST = inference_pb2.InferStreamResponse(
    output=payload_pb2.Output(generate=payload_pb2.Generated(finish_reason=payload_pb2.FINISH_REASON_STOP)),
    usage=payload_pb2.Usage(prompt_tokens=5, completion_tokens=2, cached_tokens=1),
)


def test_a_bare_chat_leaves_everything_to_the_models_defaults() -> None:
    chat = payload_pb2.Chat(messages=[payload_pb2.ChatMessage(role="user", content="Hello")])
    assert generate() == payload_pb2.Generate(chat=chat)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_completion_tokens": 8}, {"max_tokens": 8}),
        ({"max_completion_tokens": 8, "max_tokens": 8}, {"max_tokens": 8}),
        ({"n": 3}, {"n": 3}),
        ({"stop": "."}, {"stop": ["."]}),
        ({"stop": [".", "!"]}, {"stop": [".", "!"]}),
        ({"logprobs": True, "top_logprobs": 5}, {"top_logprobs": 5}),
        ({"logprobs": True}, {"top_logprobs": 0}),
        ({"response_format": {"type": "text"}}, {"json_schema": ""}),
        ({"response_format": {"type": "json_object"}}, {"json_schema": '{"type":"object"}'}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"type": "null"}},
                }
            },
            {"json_schema": '{"type":"null"}'},
        ),
    ],
)
def test_a_field_has_its_place_in_our_request(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    message = generate(**fields)
    for name, value in expected.items():
        assert getattr(message, name) == value


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 0}, {"temperature": 0.0}),
        ({"top_p": 0}, {"top_k": 1, "top_p": 1.0}),
        ({"top_k": -1}, {"top_k": 0}),
        ({"seed": -1}, {"seed": 2**32 - 1}),
        (
            {"frequency_penalty": 0.5, "presence_penalty": -1},
            {"frequency_penalty": 0.5, "presence_penalty": -1.0},
        ),
        ({"logit_bias": {"7": -100}}, {"logit_bias": {7: -100.0}}),
    ],
)
def test_sampling_fields_have_theirs(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert generate(**fields).sampling == payload_pb2.Sampling(**expected)


def test_tools_calls_and_what_they_gave_are_passed_on() -> None:
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city":"Rome"}'},
    }
    messages = [
        {
            "role": "developer",
            "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}],
        },
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    message = generate(
        messages=messages,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
    )
    assert [(one.role, one.content) for one in message.chat.messages] == [
        ("system", "Be brief."), ("assistant", ""), ("tool", "sunny"),
    ]  # fmt: skip
    assert message.chat.messages[1].tool_calls[0].arguments == '{"city":"Rome"}'
    assert message.chat.messages[2].tool_call_id == "c1"
    assert json.loads(message.tools[0].parameters) == WEATHER["function"]["parameters"]  # type: ignore[index]
    assert message.tool_choice.name == "get_weather"
    assert message.tool_choice.mode == payload_pb2.TOOL_CHOICE_MODE_REQUIRED


@pytest.mark.parametrize(
    "fields",
    [{"user": "u"}, {"store": True}, {"metadata": {"a": "b"}}, {"service_tier": "auto"}, {"verbosity": "low"},
     {"modalities": ["text"]}, {"function_call": "none"}, {"prompt_cache_key": "k"}, {"audio": None}],
)  # fmt: skip
def test_fields_that_only_hint_are_tolerated(fields: dict[str, Any]) -> None:
    assert generate(**fields) == generate()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"web_search_options": {"a": 1}}, "web_search_options"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "function", "content": ""}]}, "messages[0].role"),
    ],
)
def test_fields_that_would_change_the_answer_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedFieldError) as caught:
        asked(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [7]}, "messages[0]"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_completion_tokens"),
        ({"n": 17}, "n"),
        ({"stop": ["a", 1]}, "stop"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.schema"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        asked(**fields)
    assert caught.value.param == param


def test_an_answer_has_the_keys_that_clients_require() -> None:
    response = inference_pb2.InferResponse(
        model="tiny",
        version="3",
        usage=payload_pb2.Usage(prompt_tokens=5, completion_tokens=2, cached_tokens=4),
    )
    response.output.generate.text = "Hi."
    response.output.generate.finish_reason = payload_pb2.FINISH_REASON_STOP
    assert asked().document([response]) == {
        "id": "chatcmpl-r1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "tiny",
        "system_fingerprint": "3",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 2,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    }


def test_several_answers_are_choices_by_index_and_a_call_is_no_text() -> None:
    response = inference_pb2.InferResponse(model="tiny")
    response.output.generate.finish_reason = payload_pb2.FINISH_REASON_TOOL_CALLS
    response.output.generate.tool_calls.add(id="c1", name="f", arguments="{}")
    response.output.generate.tool_calls.add(id="c2", name="g", arguments="{}")
    response.output.generate.others.add(text="B", index=1, finish_reason=payload_pb2.FINISH_REASON_LENGTH)
    first, second = asked(parallel_tool_calls=False).document([response])["choices"]  # type: ignore[index]
    assert first["message"]["content"] is None
    assert [call["id"] for call in first["message"]["tool_calls"]] == ["c1"], "one call was allowed"
    assert (second["index"], second["message"]["content"], second["finish_reason"]) == (1, "B", "length")


def test_log_probabilities_have_text_and_bytes_even_of_half_a_character() -> None:
    response = inference_pb2.InferResponse(model="tiny")
    token = response.output.generate.logprobs.add(token=1, text=b"\xf0\x9f", logprob=-0.5)
    token.top.add(token=2, text=b"a", logprob=-1.0)
    (choice,) = asked(logprobs=True, top_logprobs=1).document([response])["choices"]  # type: ignore[index]
    assert choice["logprobs"]["content"] == [
        {
            "token": "�", "logprob": -0.5, "bytes": [0xF0, 0x9F],
            "top_logprobs": [{"token": "a", "logprob": -1.0, "bytes": [97]}],
        }
    ]  # fmt: skip


def test_a_stream_begins_with_the_role_and_ends_with_the_reason_and_done() -> None:
    chunks = events(asked(stream=True).events, FIRST, piece(text="Hi"), LAST)
    assert [chunk["choices"][0]["delta"] for chunk in chunks[:-1]] == [
        {"role": "assistant", "content": ""}, {"content": "Hi"}, {},
    ]  # fmt: skip
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None, None, "stop"]
    assert {(chunk["id"], chunk["object"], chunk["model"]) for chunk in chunks[:-1]} == {
        ("chatcmpl-r1", "chat.completion.chunk", "tiny")
    }
    assert chunks[-1] == "[DONE]"


def test_usage_comes_in_a_last_chunk_without_choices_where_it_is_wanted() -> None:
    form = asked(stream=True, stream_options={"include_usage": True}).events
    *chunks, usage, done = events(form, FIRST, piece(text="Hi"), LAST)
    assert all(chunk["usage"] is None for chunk in chunks)
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 7)
    assert done == "[DONE]"
    assert all("usage" not in chunk for chunk in events(asked(stream=True).events, FIRST, LAST)[:-1])


def test_answers_of_one_stream_are_told_apart_and_calls_are_counted_for_each() -> None:
    call = payload_pb2.ToolCall(id="c", name="f", arguments="{}")
    chunks = events(
        asked(stream=True, n=2).events,
        piece(index=1, text="B"),
        piece(index=0, tool_calls=[call]),
        piece(index=0, tool_calls=[call], finish_reason=payload_pb2.FINISH_REASON_TOOL_CALLS),
    )[:-1]
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["index"] for choice in choices] == [1, 1, 0, 0, 0, 0]
    calls = [
        choice["delta"]["tool_calls"][0]["index"] for choice in choices if "tool_calls" in choice["delta"]
    ]
    assert calls == [0, 1]


def test_a_stream_that_breaks_tells_an_error_and_never_done() -> None:
    form = asked(stream=True).events
    assert form is not None
    error: MeshError = StreamBrokenError("broke")
    body = form.failure(error, 3)
    assert b"[DONE]" not in body
    assert set(json.loads(body.removeprefix(b"data: "))["error"]) == {"message", "type", "param", "code"}
