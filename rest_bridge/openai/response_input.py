"""The input of a response, from OpenAI's items to the messages of a chat. Pure.

Source: https://platform.openai.com/docs/api-reference/responses/create
"""

from __future__ import annotations

from inference_mesh.v1 import payload_pb2
from rest_bridge.fields import Fields
from rest_bridge.openai.messages import OWN_ROLES, text_of

ROLES = ("system", "developer", "user", "assistant")
MOST_ITEMS = 4096


def chat_of_input(fields: Fields) -> payload_pb2.Chat:
    """`instructions` and `input` as one conversation. Raises InvalidFieldError, UnsupportedFieldError."""
    messages: list[payload_pb2.ChatMessage] = []
    instructions = fields.text("instructions")
    if instructions:
        messages.append(payload_pb2.ChatMessage(role="system", content=instructions))
    if isinstance(fields["input"], str):
        messages.append(payload_pb2.ChatMessage(role="user", content=fields.required_text("input")))
    else:
        items = fields.objects("input", most=MOST_ITEMS)
        if not items:
            raise fields.wrong("input", "a text or a list of items, not empty")
        for item in items:
            _add(messages, item)
    return payload_pb2.Chat(messages=messages)


def _add(messages: list[payload_pb2.ChatMessage], item: Fields) -> None:
    kind = item.text("type", "message")
    if kind == "message":
        messages.append(_message(item))
    elif kind == "function_call":
        _last_assistant(messages).tool_calls.append(_call(item))
    elif kind == "function_call_output":
        content = text_of(item, "output")
        call_id = item.required_text("call_id")
        messages.append(payload_pb2.ChatMessage(role="tool", content=content, tool_call_id=call_id))
    elif kind != "reasoning":  # what a model once thought is not shown to it again
        raise item.unsupported("type", f"'{kind[:64]}' is not supported; answers are not kept here")


def _message(item: Fields) -> payload_pb2.ChatMessage:
    role = item.choice("role", ROLES, "")
    if not role:
        raise item.wrong("role", "one of " + ", ".join(f"'{word}'" for word in ROLES))
    return payload_pb2.ChatMessage(role=OWN_ROLES.get(role, role), content=text_of(item, "content"))


def _call(item: Fields) -> payload_pb2.ToolCall:
    return payload_pb2.ToolCall(
        id=item.required_text("call_id"),
        name=item.required_text("name"),
        arguments=item.text("arguments", "{}"),
    )


def _last_assistant(messages: list[payload_pb2.ChatMessage]) -> payload_pb2.ChatMessage:
    """The assistant's message that a call belongs to: calls stand beside the text they came with."""
    if not messages or messages[-1].role != "assistant":
        messages.append(payload_pb2.ChatMessage(role="assistant"))
    return messages[-1]
