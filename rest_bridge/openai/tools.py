"""Tools and the choice among them, from OpenAI's forms to ours. Pure."""

from __future__ import annotations

import orjson

from inference_mesh.v1 import payload_pb2
from rest_bridge.fields import Fields

MODES = {
    "auto": payload_pb2.TOOL_CHOICE_MODE_AUTO,
    "none": payload_pb2.TOOL_CHOICE_MODE_NONE,
    "required": payload_pb2.TOOL_CHOICE_MODE_REQUIRED,
}


def tools_of(fields: Fields) -> list[payload_pb2.Tool]:
    """The functions of `tools`, each under its key "function" (chat) or plain (responses)."""
    return [_tool(tool) for tool in fields.objects("tools")]


def tool_choice_of(fields: Fields) -> payload_pb2.ToolChoice | None:
    """What `tool_choice` says; None where it says nothing."""
    value = fields["tool_choice"]
    if value is None:
        return None
    if not isinstance(value, dict):
        return payload_pb2.ToolChoice(mode=MODES[fields.choice("tool_choice", tuple(MODES), "")])
    choice = fields.required_nested("tool_choice")
    if choice.text("type") != "function":
        raise choice.unsupported("type", "must be 'function'")
    name = (choice.nested("function") or choice).required_text("name")
    return payload_pb2.ToolChoice(mode=payload_pb2.TOOL_CHOICE_MODE_REQUIRED, name=name)


def _tool(tool: Fields) -> payload_pb2.Tool:
    kind = tool.text("type")
    if kind != "function":
        raise tool.unsupported("type", f"'{kind[:64]}' is not supported; allowed is 'function'")
    function = tool.nested("function") or tool
    parameters = function["parameters"]
    if parameters is not None and not isinstance(parameters, dict):
        raise function.wrong("parameters", "a JSON Schema, which is an object")
    return payload_pb2.Tool(
        name=function.required_text("name"),
        description=function.text("description"),
        parameters=orjson.dumps(parameters).decode() if parameters else "",
    )
