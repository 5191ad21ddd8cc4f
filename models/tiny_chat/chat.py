"""The chat format: ChatML, its tokens, its Jinja template, and how a conversation becomes text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

END_OF_TEXT = "<|endoftext|>"
START = "<|im_start|>"
END = "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, START, END)

_TOOLS_HEAD = "You may call these tools.\n<tools>\n"
_TOOLS_TAIL = "</tools>"

TEMPLATE = (
    "{%- if tools %}"
    "{{- '<|im_start|>system\\n' }}"
    "{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n' }}{%- endif %}"
    "{{- 'You may call these tools.\\n<tools>\\n' }}"
    "{%- for tool in tools %}{{- tool | tojson }}{{- '\\n' }}{%- endfor %}"
    "{{- '</tools><|im_end|>\\n' }}"
    "{%- endif %}"
    "{%- for message in messages %}"
    "{%- if not (tools and loop.first and message.role == 'system') %}"
    "{%- if message.role == 'tool' %}"
    "{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}"
    "{%- elif message.tool_calls %}"
    "{{- '<|im_start|>assistant' }}"
    "{%- for call in message.tool_calls %}"
    "{%- set call = call.function if call.function else call %}"
    '{{- \'\\n<tool_call>\\n{"name": "\' + call.name + \'", "arguments": \' }}'
    "{{- call.arguments if call.arguments is string else call.arguments | tojson }}"
    "{{- '}\\n</tool_call>' }}"
    "{%- endfor %}{{- '<|im_end|>\\n' }}"
    "{%- else %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endif %}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


class Message(NamedTuple):
    """One turn of a conversation; role is system, user or assistant."""

    role: str
    content: str


def render(messages: Sequence[Message], *, ask: bool = False) -> str:
    """The conversation as the model reads it; `ask` opens the assistant's next turn."""
    turns = "".join(f"{START}{role}\n{content}{END}\n" for role, content in messages)
    return turns + (f"{START}assistant\n" if ask else "")


def tools_prompt(tools: Sequence[dict[str, object]], system: str = "") -> str:
    """The system message that declares tools, as TEMPLATE writes it."""
    listed = "".join(json.dumps(tool, ensure_ascii=False) + "\n" for tool in tools)
    return (system + "\n" if system else "") + _TOOLS_HEAD + listed + _TOOLS_TAIL


def tool_call(name: str, arguments: Mapping[str, object]) -> str:
    """The assistant's answer that calls a tool."""
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"
