"""How models write function calls, by what their chat templates say. Pure.

Owns the table. Sources: the templates of Hermes 2 Pro and Qwen 2.5, Mistral 7B Instruct v0.3 and
Small 3.2, Llama 3.1 and 3.2, Phi 4 mini and Granite 3 on huggingface.co.
"""

from __future__ import annotations

import dataclasses
import enum


class Body(enum.Enum):
    """What stands behind a call's beginning."""

    OBJECT = "an object with name and arguments"
    LIST = "a list of such objects"
    NAMED = "the name, then the arguments"


@dataclasses.dataclass(frozen=True, slots=True)
class ToolStyle:
    """One way of writing calls.

    signs: texts of a template, one of which means that its model writes so. begin: text before a
    call. before_body, after_body: as a call that is asked for is written. end: text after a call,
    which may be missing. arguments: their key. between: with Body.NAMED, what ends the name. may_be_bare:
    an answer may also begin with the body itself.
    """

    signs: tuple[str, ...]
    begin: str
    end: str = ""
    body: Body = Body.OBJECT
    before_body: str = ""
    after_body: str = ""
    arguments: str = "arguments"
    between: str = ""
    may_be_bare: bool = False

    @property
    def marks(self) -> frozenset[str]:
        """Texts that may be control tokens of the model."""
        return frozenset(text for text in (self.begin, self.end, self.between) if text)


STYLES = (
    ToolStyle(("<tool_call>",), "<tool_call>", "</tool_call>", before_body="\n", after_body="\n"),
    ToolStyle(("[ARGS]",), "[TOOL_CALLS]", body=Body.NAMED, between="[ARGS]"),
    ToolStyle(("[TOOL_CALLS]",), "[TOOL_CALLS]", body=Body.LIST),
    ToolStyle(("<|tool_call|>",), "<|tool_call|>", "<|/tool_call|>", body=Body.LIST),
    ToolStyle(
        ("<|python_tag|>", '{"name": function name, "parameters":'),
        "<|python_tag|>",
        arguments="parameters",
        may_be_bare=True,
    ),
)
"""The first whose sign a template has is its model's."""

OTHERS = ("<function=", "<parameter=")
"""Texts of templates whose models write calls in XML within the same marks: not read here."""


def style_of(template: str) -> ToolStyle | None:
    """How the model of a chat template writes calls; None if that is not known."""
    if any(text in template for text in OTHERS):
        return None
    return next((style for style in STYLES if any(sign in template for sign in style.signs)), None)
