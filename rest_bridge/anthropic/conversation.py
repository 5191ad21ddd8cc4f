"""A conversation, its tools and the choice among them, from Anthropic's forms to ours. Pure.

Source: https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

import orjson

from inference_mesh.v1 import payload_pb2
from rest_bridge.fields import Fields

MOST_MESSAGES = 4096
MODES = {
    "auto": payload_pb2.TOOL_CHOICE_MODE_AUTO,
    "any": payload_pb2.TOOL_CHOICE_MODE_REQUIRED,
    "tool": payload_pb2.TOOL_CHOICE_MODE_REQUIRED,
    "none": payload_pb2.TOOL_CHOICE_MODE_NONE,
}
THOUGHTS = ("thinking", "redacted_thinking")
"""What a model once thought is not shown to it again."""


def chat_of(fields: Fields) -> payload_pb2.Chat:
    """`system` and `messages` as one conversation. Raises InvalidFieldError, UnsupportedFieldError."""
    messages = fields.objects("messages", most=MOST_MESSAGES)
    if not messages:
        raise fields.wrong("messages", "a list of at least one message")
    chat = payload_pb2.Chat()
    if "system" in fields:
        chat.messages.add(role="system", content=_text_of(fields, "system"))
    for message in messages:
        chat.messages.extend(_messages(message))
    return chat


def tools_of(fields: Fields) -> list[payload_pb2.Tool]:
    """The functions of `tools`."""
    return [_tool(tool) for tool in fields.objects("tools")]


def tool_choice_of(fields: Fields) -> payload_pb2.ToolChoice | None:
    """What `tool_choice` says; None where it says nothing."""
    choice = fields.nested("tool_choice")
    if choice is None:
        return None
    kind = choice.choice("type", tuple(MODES), "auto")
    return payload_pb2.ToolChoice(
        mode=MODES[kind], name=choice.required_text("name") if kind == "tool" else ""
    )


def _messages(message: Fields) -> list[payload_pb2.ChatMessage]:
    """One message of theirs: what tools gave stands in a user's message there, and alone here."""
    role = message.choice("role", ("user", "assistant", "system"), "")
    if not role:
        raise message.wrong("role", "one of 'user', 'assistant'")
    if isinstance(message["content"], str):
        return [payload_pb2.ChatMessage(role=role, content=message.text("content"))]
    results: list[payload_pb2.ChatMessage] = []
    own = payload_pb2.ChatMessage(role=role)
    for block in message.objects("content"):
        kind = block.text("type")
        if kind == "text":
            own.content += block.text("text")
        elif kind == "tool_use" and role == "assistant":
            own.tool_calls.append(_call(block))
        elif kind == "tool_result" and role == "user":
            results.append(_result(block))
        elif kind not in THOUGHTS:
            raise block.unsupported("type", f"'{kind[:64]}' is not supported here; the models take text")
    if not (own.content or own.tool_calls or results):
        raise message.wrong("content", "a text or a list of blocks, not empty")
    return [*results, own] if own.content or own.tool_calls else results


def _call(block: Fields) -> payload_pb2.ToolCall:
    arguments = block["input"]
    if arguments is not None and not isinstance(arguments, dict):
        raise block.wrong("input", "an object")
    return payload_pb2.ToolCall(
        id=block.required_text("id"),
        name=block.required_text("name"),
        arguments=orjson.dumps(arguments or {}).decode(),
    )


def _result(block: Fields) -> payload_pb2.ChatMessage:
    return payload_pb2.ChatMessage(
        role="tool", content=_text_of(block, "content"), tool_call_id=block.required_text("tool_use_id")
    )


def _text_of(fields: Fields, name: str) -> str:
    """A text, or a list of blocks of type text."""
    if not isinstance(fields[name], list):
        return fields.text(name)
    texts = []
    for block in fields.objects(name):
        kind = block.text("type")
        if kind != "text":
            raise block.unsupported("type", f"'{kind[:64]}' is not supported here; the models take text")
        texts.append(block.text("text"))
    return "".join(texts)


def _tool(tool: Fields) -> payload_pb2.Tool:
    kind = tool.text("type", "custom")
    if kind != "custom":
        raise tool.unsupported("type", f"'{kind[:64]}' is run by a server, and none here does")
    schema = tool["input_schema"]
    if not isinstance(schema, dict):
        raise tool.wrong("input_schema", "a JSON Schema, which is an object")
    return payload_pb2.Tool(
        name=tool.required_text("name"),
        description=tool.text("description"),
        parameters=orjson.dumps(schema).decode(),
    )
