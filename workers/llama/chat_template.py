"""Turns a conversation into a prompt with the model's own chat template.

Owns the rendering and its sandbox: a template comes with the model's file. Templates are
written for Jinja, so Jinja renders them; where it cannot, llama.cpp tries those it knows.
Names of control tokens in a message stay plain text: a user cannot speak as the system.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from inference_mesh.errors import InvalidInputError, UnsupportedError

ROLES = ("system", "user", "assistant", "tool")
Message = tuple[str, str]
"""Role and content."""

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
        render_known: Callable[[str, Sequence[Message]], str | None] = lambda _template, _messages: None,
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

    def render(self, messages: Sequence[Message]) -> list[Segment]:
        """The prompt of a conversation, up to where the answer begins.

        Raises InvalidInputError if the template refuses the conversation, UnsupportedError if
        the model has no template.
        """
        _check(messages)
        marked = [(role, self._mark(content)) for role, content in messages]
        return self._segments(self._apply(marked))

    def _apply(self, messages: Sequence[Message]) -> str:
        if self._template is None:
            known = self._render_known(self._source, messages) if self._source else None
            if known is None:
                raise UnsupportedError("this model has no chat template; send a prompt instead of messages")
            return known
        try:
            return self._template.render(
                messages=[{"role": role, "content": content} for role, content in messages],
                add_generation_prompt=True,
                **self._texts,
            )
        except jinja2.TemplateError as error:
            raise InvalidInputError(f"the chat template refuses these messages: {error.message}") from error
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
            raise InvalidInputError("the chat template cannot be applied to these messages") from error

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
    for index, (role, _) in enumerate(messages):
        if role not in ROLES:
            raise InvalidInputError(f"chat.messages[{index}].role is {role!r}; allowed: {', '.join(ROLES)}")


def _compiled(source: str) -> jinja2.Template | None:
    """The template in a sandbox; None if it is not valid Jinja."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now(UTC).strftime(form)
    try:
        return environment.from_string(source)
    except jinja2.TemplateError:
        return None


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)
