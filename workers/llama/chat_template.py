"""Turns a conversation into a prompt with the model's own chat template.

Owns the rendering and its sandbox: a template comes with the model's file. Templates are
written for Jinja, so Jinja renders them; where it cannot, llama.cpp tries those it knows.
Names of control tokens in a message stay plain text: a user cannot speak as the system.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import jinja2
import jinja2.meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from inference_mesh.errors import InvalidInputError, UnsupportedError

ROLES = ("system", "user", "assistant", "tool")
TOOL_CALLS, TOOLS = "tool_calls", "tools"


class Message(NamedTuple):
    """One message. tool_calls: as templates expect them. tool_call_id: of the call that it answers."""

    role: str
    content: str
    tool_calls: Sequence[Mapping[str, Any]] = ()
    tool_call_id: str = ""


KnownRenderer = Callable[[str, Sequence[tuple[str, str]]], str | None]
"""Renders roles and contents by a template's text; None if it does not know it."""

_MARK_BASE = 0xF0000
"""Private-use characters stand for control tokens' names while the template is applied."""


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """Part of a prompt. may_steer: the names of control tokens in it mean those tokens."""

    text: str
    may_steer: bool


class ChatTemplate:
    """One model's template."""

    def __init__(
        self,
        source: str,
        control_names: Sequence[str],
        *,
        begin_text: str = "",
        end_text: str = "",
        render_known: KnownRenderer = lambda _template, _messages: None,
    ) -> None:
        """Compile the template.

        source: Jinja text, empty = the model has none. control_names: texts of its control
        tokens. begin_text, end_text: those of the tokens around a text. render_known: what
        to try when the source is no valid Jinja.
        """
        self._source = source
        self._names = sorted((name for name in control_names if name), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._names))) if self._names else None
        self._marks = {name: chr(_MARK_BASE + index) for index, name in enumerate(self._names)}
        self._texts = {"bos_token": begin_text, "eos_token": end_text}
        self._render_known = render_known
        self._template = _compiled(source) if source else None
        self._knows_tools = self._template is not None and TOOLS in _variables(source)
        self._knows_calls = self._template is not None and TOOL_CALLS in source

    @property
    def source(self) -> str:
        """Its text."""
        return self._source

    def render(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> list[Segment]:
        """The prompt of a conversation, up to where the answer begins. tools: in OpenAI's form.

        Raises InvalidInputError if the template refuses the conversation, UnsupportedError if
        the model has no template, or one that knows no tools.
        """
        _check(messages)
        if tools and not self._knows_tools:
            raise UnsupportedError("this model's chat template knows no tools; send the request without")
        if any(message.tool_calls for message in messages) and not self._knows_calls:
            raise UnsupportedError("this model's chat template knows no messages with tool_calls")
        marked = [_document(message) for message in messages]
        return self._segments(self._apply(self._marked(marked), self._marked(list(tools))))

    def _apply(self, messages: list[dict[str, Any]], tools: list[Any]) -> str:
        if self._template is None:
            pairs = [(message["role"], message["content"]) for message in messages]
            known = self._render_known(self._source, pairs) if self._source else None
            if known is None:
                raise UnsupportedError("this model has no chat template; send a prompt instead of messages")
            return known
        try:
            return self._template.render(
                messages=messages, tools=tools or None, add_generation_prompt=True, **self._texts
            )
        except jinja2.TemplateError as error:
            raise InvalidInputError(f"the chat template refuses these messages: {error.message}") from error
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
            raise InvalidInputError("the chat template cannot be applied to these messages") from error

    def _marked(self, value: Any) -> Any:
        """A document with marks in place of control tokens' names, in all of its texts."""
        if isinstance(value, str):
            return self._mark(value)
        if isinstance(value, dict):
            return {self._mark(key): self._marked(item) for key, item in value.items()}
        return [self._marked(item) for item in value] if isinstance(value, list) else value

    def _mark(self, content: str) -> str:
        if self._pattern is None:
            return content
        return self._pattern.sub(lambda found: self._marks[found.group()], content)

    def _segments(self, prompt: str) -> list[Segment]:
        segments = []
        for part in re.split(
            f"([{chr(_MARK_BASE)}-{chr(_MARK_BASE + max(len(self._names) - 1, 0))}])", prompt
        ):
            is_mark = len(part) == 1 and 0 <= ord(part) - _MARK_BASE < len(self._names)
            if part:
                text = self._names[ord(part) - _MARK_BASE] if is_mark else part
                segments.append(Segment(text, may_steer=not is_mark))
        return segments


def _check(messages: Sequence[Message]) -> None:
    if not messages:
        raise InvalidInputError("chat.messages is empty; at least one is needed")
    for index, message in enumerate(messages):
        if message.role not in ROLES:
            raise InvalidInputError(
                f"chat.messages[{index}].role is {message.role!r}; allowed: {', '.join(ROLES)}"
            )


def _document(message: Message) -> dict[str, Any]:
    """A message as templates expect it; many ask whether a key is there at all."""
    document: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        document[TOOL_CALLS] = list(message.tool_calls)
    if message.tool_call_id:
        document["tool_call_id"] = message.tool_call_id
    return document


def _compiled(source: str) -> jinja2.Template | None:
    """The template in a sandbox; None if it is not valid Jinja."""
    try:
        return _environment().from_string(source)
    except jinja2.TemplateError:
        return None


def _variables(source: str) -> set[str]:
    """The names that a template asks for."""
    return jinja2.meta.find_undeclared_variables(_environment().parse(source))


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now(UTC).strftime(form)
    environment.filters["tojson"] = _to_json
    return environment


def _to_json(value: object, indent: int | None = None, **options: Any) -> str:
    """JSON as templates for language models expect it: not escaped for HTML, as Jinja's own is."""
    return json.dumps(value, indent=indent, **{"ensure_ascii": False, **options})


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)
