"""The training text is the same each time, well formed, and holds no question of the evaluation."""

from __future__ import annotations

import json

import jinja2
import pytest

from models.tiny_chat.chat import END, END_OF_TEXT, TEMPLATE, Message, render, tool_call, tools_prompt
from models.tiny_chat.corpus import GENERATORS, documents
from models.tiny_chat.evaluate import fresh_questions
from models.tiny_chat.exchange import Exchange
from models.tiny_chat.split import is_held_out, wording

TOOL: dict[str, object] = {
    "type": "function",
    "function": {"name": "get_time", "parameters": {"type": "object"}},
}


@pytest.fixture(scope="module")
def training_text() -> str:
    """The first documents of the training, about a tenth of all."""
    return "".join(document.text() for part in range(1001, 1011) for document in documents(part, 500))


def test_the_same_seed_gives_the_same_text() -> None:
    first, second = ([document.text() for document in documents(5, 300)] for _ in range(2))
    assert first == second
    assert first != [document.text() for document in documents(6, 300)]


def test_the_same_seed_gives_the_same_questions() -> None:
    assert fresh_questions() == fresh_questions()


def test_no_question_of_the_evaluation_stands_in_the_training_text(training_text: str) -> None:
    lowered = training_text.lower()
    for exchange in fresh_questions():
        conversation = [*exchange.history, Message("user", exchange.question)]
        assert render(conversation).lower() not in lowered


def test_every_question_of_the_evaluation_is_on_the_held_out_side() -> None:
    questions = fresh_questions()
    assert all(is_held_out(exchange) for exchange in questions)
    assert len({wording(exchange) for exchange in questions}) == len(questions)
    assert {exchange.category for exchange in questions} == {*GENERATORS, "story"}


def test_capitals_and_marks_do_not_move_a_question_to_the_other_side() -> None:
    spoken = [Exchange("self", question, "") for question in ("Who are you?", "who are you", "Who are you")]
    assert len({wording(exchange) for exchange in spoken}) == 1


def test_every_document_ends_and_every_answer_ends() -> None:
    for document in documents(9, 300):
        assert document.text().endswith(END_OF_TEXT)
        for text, is_learned in document.segments():
            assert not is_learned or text.endswith((END, END_OF_TEXT))


def test_learned_text_is_exactly_what_the_assistant_says() -> None:
    document = next(entry for entry in documents(9, 50) if len(entry.messages) > 2)
    learned = "".join(text for text, is_learned in document.segments() if is_learned)
    said = (message.content + END for message in document.messages if message.role == "assistant")
    assert learned == "".join(said)


def test_the_template_writes_what_the_model_was_trained_on() -> None:
    messages = [Message("system", "Be brief."), Message("user", "Hello"), Message("assistant", "Hi.")]
    written = _apply([message._asdict() for message in messages])
    assert written == render(messages, ask=True)


@pytest.mark.parametrize("system", ["", "Be brief."])
def test_the_template_declares_tools_as_the_model_was_trained_on(system: str) -> None:
    asked = [Message("user", "What time is it in Rome?")]
    given = [Message("system", system), *asked] if system else asked
    written = _apply([message._asdict() for message in given], tools=[TOOL])
    assert written == render([Message("system", tools_prompt([TOOL], system)), *asked], ask=True)


def test_the_template_writes_tool_calls_as_the_model_does() -> None:
    call: dict[str, object] = {"function": {"name": "get_time", "arguments": json.dumps({"city": "Rome"})}}
    written = _apply([{"role": "assistant", "content": "", "tool_calls": [call]}], ask=False)
    assert written == render([Message("assistant", tool_call("get_time", {"city": "Rome"}))])


def _apply(messages: list[dict[str, object]], tools: object = None, *, ask: bool = True) -> str:
    environment = jinja2.Environment(autoescape=False)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = environment.from_string(TEMPLATE)
    return template.render(messages=messages, tools=tools, add_generation_prompt=ask)
