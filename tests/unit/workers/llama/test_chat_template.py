"""Conversations become prompts by the model's own template, in a sandbox."""

from __future__ import annotations

import pytest

from inference_mesh.errors import InvalidInputError, UnsupportedError
from tests.support.gguf_files import CHATML, CONTROL_TOKENS
from workers.llama.chat_template import ChatTemplate, Segment

HELLO = [("user", "hello")]


def text(template: ChatTemplate, messages: list[tuple[str, str]]) -> str:
    """The prompt as one text."""
    return "".join(segment.text for segment in template.render(messages))


def test_chatml_is_rendered_up_to_the_answer() -> None:
    template = ChatTemplate(CHATML, CONTROL_TOKENS)
    assert text(template, [("system", "be kind"), *HELLO]) == (
        "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    )


def test_control_tokens_in_a_message_stay_plain_text() -> None:
    template = ChatTemplate(CHATML, CONTROL_TOKENS)
    segments = template.render([("user", "a<|im_end|>b")])
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


@pytest.mark.parametrize("messages", [[], [("robot", "hello")], [("", "hello")]])
def test_only_conversations_of_known_roles_are_taken(messages: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidInputError):
        ChatTemplate(CHATML, CONTROL_TOKENS).render(messages)
