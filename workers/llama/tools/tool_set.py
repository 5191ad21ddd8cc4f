"""The functions of a request: checked, shown to the template, and as a grammar where one must be called.

Owns the limits of tools and tool_choice.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from inference_mesh import strict_json
from inference_mesh.errors import InvalidInputError
from inference_mesh.v1 import payload_pb2
from workers.llama.json_grammar import gbnf, schema_rules
from workers.llama.tools.style import Body, ToolStyle

MAX_TOOLS = 128
MAX_TOOL_BYTES = 64 << 10
MAX_CALLS = 128
"""Of one message."""
MAX_ID_BYTES = 256
NO_ARGUMENTS = '{"type": "object", "additionalProperties": false}'
NO_PARAMETERS = '{"type": "object", "properties": {}}'

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MODES = {
    payload_pb2.TOOL_CHOICE_MODE_UNSPECIFIED,
    payload_pb2.TOOL_CHOICE_MODE_AUTO,
    payload_pb2.TOOL_CHOICE_MODE_NONE,
    payload_pb2.TOOL_CHOICE_MODE_REQUIRED,
}
_ALLOWED_NAME = "1 to 64 letters, digits, '_' and '-'"


@dataclasses.dataclass(frozen=True, slots=True)
class ToolSet:
    """What a model is shown. required: names of which it must call one; empty = as it likes."""

    tools: Sequence[payload_pb2.Tool]
    required: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """Of all functions."""
        return frozenset(tool.name for tool in self.tools)

    def documents(self) -> list[dict[str, Any]]:
        """The tools as templates expect them."""
        return [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    **({"description": tool.description} if tool.description else {}),
                    "parameters": strict_json.loads((tool.parameters or NO_PARAMETERS).encode()),
                },
            }
            for tool in self.tools
        ]

    def grammar(self, style: ToolStyle) -> str:
        """GBNF of one call of a required function. Raises InvalidInputError for other schemas."""
        rules: dict[str, str] = {}
        calls = []
        for index, tool in enumerate(self.tools):
            if tool.name in self.required:
                field = f"tools[{index}].parameters"
                arguments, own = schema_rules(_arguments_schema(tool), field, f"t{index}-")
                rules.update(own)
                calls.append(_call(style, tool.name, arguments))
        return gbnf(" | ".join(calls), rules)


def tool_set(generate: payload_pb2.Generate) -> ToolSet | None:
    """What a request shows to the model; None = no tools. Raises InvalidInputError."""
    choice = generate.tool_choice
    _check_choice(generate)
    if not generate.tools:
        return None
    if generate.WhichOneof("input") != "chat":
        raise InvalidInputError("tools are taken with chat only, not with prompt or tokens")
    if len(generate.tools) > MAX_TOOLS:
        raise InvalidInputError(f"tools has {len(generate.tools)} entries; allowed: at most {MAX_TOOLS}")
    seen: set[str] = set()
    for index, tool in enumerate(generate.tools):
        _check_tool(tool, f"tools[{index}]")
        if tool.name in seen:
            raise InvalidInputError(f"tools[{index}].name '{tool.name}' occurs twice")
        seen.add(tool.name)
    if choice.name and choice.name not in seen:
        raise InvalidInputError(f"tool_choice.name '{choice.name[:64]}' is none of the tools")
    if choice.mode == payload_pb2.TOOL_CHOICE_MODE_NONE:
        return None
    is_required = choice.mode == payload_pb2.TOOL_CHOICE_MODE_REQUIRED
    required = (frozenset({choice.name}) if choice.name else frozenset(seen)) if is_required else frozenset()
    return ToolSet(generate.tools, required)


def call_document(call: payload_pb2.ToolCall, where: str) -> dict[str, Any]:
    """A call of an earlier message as templates expect it. Raises InvalidInputError."""
    _check_name(call.name, f"{where}.name")
    check_id(call.id, f"{where}.id")
    arguments = _object(call.arguments or "{}", f"{where}.arguments")
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def check_id(value: str, where: str) -> None:
    """Raises InvalidInputError for an id of a call that is too long."""
    if len(value.encode()) > MAX_ID_BYTES:
        raise InvalidInputError(f"{where} has {len(value.encode())} bytes; allowed: at most {MAX_ID_BYTES}")


def _check_choice(generate: payload_pb2.Generate) -> None:
    choice = generate.tool_choice
    if choice.mode not in _MODES:
        raise InvalidInputError(f"tool_choice.mode is {choice.mode}; allowed: AUTO, NONE and REQUIRED")
    is_required = choice.mode == payload_pb2.TOOL_CHOICE_MODE_REQUIRED
    if choice.name and not is_required:
        raise InvalidInputError("tool_choice.name is taken with TOOL_CHOICE_MODE_REQUIRED only")
    if is_required and not generate.tools:
        raise InvalidInputError("tool_choice requires a call, but the request has no tools")


def _check_tool(tool: payload_pb2.Tool, where: str) -> None:
    _check_name(tool.name, f"{where}.name")
    size = len(tool.description.encode()) + len(tool.parameters.encode())
    if size > MAX_TOOL_BYTES:
        raise InvalidInputError(f"{where} has {size} bytes; allowed: at most {MAX_TOOL_BYTES}")
    if tool.parameters:
        kind = _object(tool.parameters, f"{where}.parameters").get("type", "object")
        if kind != "object":
            raise InvalidInputError(f"{where}.parameters.type must be 'object'")


def _check_name(name: str, where: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInputError(f"{where} is {name[:64]!r}; allowed: {_ALLOWED_NAME}")


def _object(text: str, where: str) -> Mapping[str, Any]:
    try:
        document = strict_json.loads(text.encode())
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error.message}") from None
    if not isinstance(document, dict):
        raise InvalidInputError(f"{where} must be a JSON object")
    return document


def _arguments_schema(tool: payload_pb2.Tool) -> str:
    """The schema of a function's arguments, which are an object even if it does not say so."""
    return json.dumps({"type": "object", **json.loads(tool.parameters or NO_ARGUMENTS)})


def _call(style: ToolStyle, name: str, arguments: str) -> str:
    """The expression of one call as models of this style write it."""
    if style.body is Body.NAMED:
        return f"{_quoted(style.begin + name + style.between)} {arguments}"
    opening = f'{{"name": {json.dumps(name)}, "{style.arguments}": '
    first, last = ("[", "]") if style.body is Body.LIST else ("", "")
    before = "" if style.may_be_bare else style.begin
    before, after = f"{before}{style.before_body}{first}{opening}", f"}}{last}{style.after_body}{style.end}"
    return f"{_quoted(before)} {arguments} {_quoted(after)}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
