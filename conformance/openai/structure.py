"""Answers of a demanded form: JSON of a schema, JSON of any form, and calls of tools."""

from __future__ import annotations

import json

from conformance.checks import NotApplicableError, expect, expect_same, shown
from conformance.http_answers import Json, document_of, expect_status, member
from conformance.openai.server import CHAT, OPENAI, OpenaiServer, choices_of, skip_if_refused, text_of

SCHEMA: Json = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
WEATHER: Json = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@OPENAI.check
async def a_json_schema_is_followed(server: OpenaiServer) -> None:
    """With a response_format of json_schema the text is JSON of that schema."""
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
    document = json.loads(await _text_of_form(server, form))
    expect(
        isinstance(document, dict) and list(document) == ["ok"] and isinstance(document["ok"], bool),
        f"the text is {shown(document)}",
    )


@OPENAI.check
async def a_json_object_is_given(server: OpenaiServer) -> None:
    """With a response_format of json_object the text is a JSON object."""
    document = json.loads(await _text_of_form(server, {"type": "json_object"}))
    expect(isinstance(document, dict), f"the text is {shown(document)}")


@OPENAI.check
async def tools_are_taken_or_refused_by_name(server: OpenaiServer) -> None:
    """A request with tools is answered in words or with calls, or refused in a 4xx that names them."""
    body = await server.chat_body(tools=[WEATHER], max_tokens=64)
    response = await server.post(CHAT, body)
    skip_if_refused(response, "tool")
    expect_status(response, 200)
    choice = choices_of(document_of(response))[0]
    for call in member(choice, "message", dict).get("tool_calls") or []:
        expect(member(call, "id", str), "'id' of a tool call is empty")
        expect_same(member(call, "type", str), "function", "type of a tool call")
        function = member(call, "function", dict)
        expect_same(member(function, "name", str), "weather", "name of the function")
        member(function, "arguments", str)


async def _text_of_form(server: OpenaiServer, form: Json) -> str:
    messages = [{"role": "user", "content": "Answer in JSON: is water wet?"}]
    body = await server.chat_body(messages=messages, max_tokens=200, response_format=form)
    document = await server.answered_unless_refused(CHAT, body, "response_format")
    if choices_of(document)[0].get("finish_reason") == "length":
        raise NotApplicableError("the answer did not end within 200 tokens")
    return text_of(document)
