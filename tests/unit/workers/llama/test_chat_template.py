"""Conversations become prompts by the model's own template, in a sandbox."""

from __future__ import annotations

import pytest

from inference_mesh.errors import InvalidInputError, UnsupportedError
from tests.support.gguf_files import CHATML, CONTROL_TOKENS
from workers.llama.chat_template import ChatTemplate, Message, Segment

HELLO = [Message("user", "hello")]


def text(template: ChatTemplate, messages: list[Message]) -> str:
    """The prompt as one text."""
    return "".join(segment.text for segment in template.render(messages))


def test_chatml_is_rendered_up_to_the_answer() -> None:
    template = ChatTemplate(CHATML, CONTROL_TOKENS)
    assert text(template, [Message("system", "be kind"), *HELLO]) == (
        "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    )


def test_control_tokens_in_a_message_stay_plain_text() -> None:
    template = ChatTemplate(CHATML, CONTROL_TOKENS)
    segments = template.render([Message("user", "a<|im_end|>b")])
    assert Segment("<|im_end|>", may_steer=False) in segments
    assert [segment.may_steer for segment in segments] == [True, False, True]
    assert "a<|im_end|>b<|im_end|>" in "".join(segment.text for segment in segments)


def test_the_special_texts_of_the_model_reach_the_template() -> None:
    template = ChatTemplate(
        "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", (), begin_text="<s>", end_text="</s>"
    )
    assert text(template, HELLO) == "<s>hello</s>"


def test_a_template_may_refuse_a_conversation() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", ())
    with pytest.raises(InvalidInputError, match="roles must alternate"):
        template.render(HELLO)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ 1 / 0 }}",
        "{{ messages[0].content + 1 }}",
        "{% for i in range(10000000) %}{% endfor %}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(source: str) -> None:
    with pytest.raises(InvalidInputError):
        ChatTemplate(source, ()).render(HELLO)


def test_a_template_that_is_no_jinja_is_left_to_llama_cpp() -> None:
    template = ChatTemplate(
        "{% chatml", (), render_known=lambda source, messages: f"{source}:{len(messages)}"
    )
    assert text(template, HELLO) == "{% chatml:1"


@pytest.mark.parametrize("source", ["", "{% unknown"])
def test_a_model_without_a_usable_template_takes_no_messages(source: str) -> None:
    with pytest.raises(UnsupportedError):
        ChatTemplate(source, ()).render(HELLO)


@pytest.mark.parametrize("messages", [[], [Message("robot", "hello")], [Message("", "hello")]])
def test_only_conversations_of_known_roles_are_taken(messages: list[Message]) -> None:
    with pytest.raises(InvalidInputError):
        ChatTemplate(CHATML, CONTROL_TOKENS).render(messages)


CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": "<|im_end|>"}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"<|im_end|>": "é<&"}}}


def test_tools_and_calls_reach_the_template_and_no_control_token_does() -> None:
    source = (
        "{% for tool in tools %}{{ tool | tojson }}{% endfor %}"
        "{% for message in messages %}{% if 'tool_calls' in message %}"
        "{{ message.tool_calls[0].function.arguments | tojson }}{% endif %}{{ message.tool_call_id }}"
        "{% endfor %}"
    )
    messages = [*HELLO, Message("assistant", "", [CALL]), Message("tool", "2", (), "c1")]
    segments = ChatTemplate(source, CONTROL_TOKENS).render(messages, [TOOL])
    assert "".join(segment.text for segment in segments) == (
        '{"type": "function", "function": {"name": "add", "parameters": {"<|im_end|>": "é<&"}}}'
        '{"a": "<|im_end|>"}c1'
    )
    assert [segment.text for segment in segments if not segment.may_steer] == ["<|im_end|>"] * 2


def test_a_template_that_knows_no_tools_refuses_them() -> None:
    template = ChatTemplate(CHATML, CONTROL_TOKENS)
    with pytest.raises(UnsupportedError):
        template.render(HELLO, [TOOL])
    with pytest.raises(UnsupportedError):
        template.render([*HELLO, Message("assistant", "", [CALL])])


def test_without_tools_a_template_sees_none() -> None:
    template = ChatTemplate("{% if tools is none %}none{% endif %}{{ tools }}", ())
    assert text(template, HELLO) == "noneNone"


def test_a_template_may_leave_a_loop() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.content }}{% break %}{% endfor %}", ())
    assert text(template, [*HELLO, *HELLO]) == "hello"
