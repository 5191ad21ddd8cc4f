"""The messages of a chat, from OpenAI's form to ours. Pure.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from inference_mesh.v1 import payload_pb2
from rest_bridge.fields import Fields

ROLES = ("system", "developer", "user", "assistant", "tool")
MOST_MESSAGES = 4096
OWN_ROLES = {"developer": "system"}
"""A developer message is what a system message was called before; templates know the older word."""


def chat_of(fields: Fields) -> payload_pb2.Chat:
    """The conversation. Raises InvalidFieldError and UnsupportedFieldError."""
    messages = fields.objects("messages", most=MOST_MESSAGES)
    if not messages:
        raise fields.wrong("messages", "a list of at least one message")
    return payload_pb2.Chat(messages=[_message(message) for message in messages])


def text_of(fields: Fields, name: str) -> str:
    """A content: a text, or a list of parts of type text. Raises UnsupportedFieldError for other parts."""
    value = fields[name]
    if isinstance(value, list):
        return "".join(_part(part) for part in fields.objects(name))
    return fields.text(name)


def _message(message: Fields) -> payload_pb2.ChatMessage:
    if message["role"] == "function":
        raise message.unsupported("role", "'function' is not supported; use tools and the role 'tool'")
    role = message.choice("role", ROLES, "")
    if not role:
        raise message.wrong("role", "one of " + ", ".join(f"'{word}'" for word in ROLES))
    calls = [_call(call) for call in message.objects("tool_calls")] if role == "assistant" else []
    if "content" not in message and not (role == "assistant" and (calls or "refusal" in message)):
        raise message.wrong("content", "a text or a list of parts")
    return payload_pb2.ChatMessage(
        role=OWN_ROLES.get(role, role),
        content=text_of(message, "content") or message.text("refusal"),
        tool_calls=calls,
        tool_call_id=message.required_text("tool_call_id") if role == "tool" else "",
    )


def _part(part: Fields) -> str:
    kind = part.text("type")
    if kind in ("text", "input_text", "output_text"):
        return part.text("text")
    if kind == "refusal":
        return part.text("refusal")
    raise part.unsupported("type", f"'{kind[:64]}' is not supported; the models here take text")


def _call(call: Fields) -> payload_pb2.ToolCall:
    if call.text("type", "function") != "function":
        raise call.unsupported("type", "must be 'function'")
    function = call.required_nested("function")
    return payload_pb2.ToolCall(
        id=call.text("id"), name=function.required_text("name"), arguments=function.text("arguments", "{}")
    )
