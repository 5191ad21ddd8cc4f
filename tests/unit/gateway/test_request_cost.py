"""What is reserved for a request, where it asks for several answers or shows tools."""

from __future__ import annotations

import pytest

from gateway.policy.facts import ANYONE, Cost
from gateway.policy.request_cost import cost_of, defaults_for_worker, payload_facts
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.v1 import payload_pb2

CHAT = payload_pb2.Chat(messages=[payload_pb2.ChatMessage(role="user", content="hi")])
TOOL = payload_pb2.Tool(name="add", description="Adds.", parameters='{"type": "object"}')


def model(max_tokens: int | None = None) -> ModelEntry:
    return ModelEntry(name="chat", service="chat:50051", max_tokens=max_tokens)


def cost(max_tokens: int | None = None, **fields: object) -> Cost:
    generate = payload_pb2.Generate(prompt="hi", **fields)  # type: ignore[arg-type]
    return cost_of(payload_facts(payload_pb2.Payload(generate=generate)), ANYONE, model(max_tokens))


@pytest.mark.parametrize(
    ("answers", "expected"), [(0, 50), (1, 50), (3, 150), (16, 800), (17, 800), (2**32 - 1, 800)]
)
def test_the_longest_answer_is_reserved_for_each_answer_and_the_prompt_once(
    answers: int, expected: int
) -> None:
    assert cost(n=answers, max_tokens=50).completion_tokens == expected
    assert cost(n=answers, max_tokens=50).prompt_tokens == cost(max_tokens=50).prompt_tokens


def test_the_limit_of_the_model_holds_for_each_answer() -> None:
    generate = payload_pb2.Generate(prompt="hi", n=3, max_tokens=50)
    facts = payload_facts(payload_pb2.Payload(generate=generate))
    assert cost_of(facts, ANYONE, model(20)).completion_tokens == 60


def test_the_default_length_of_an_answer_is_its_share_of_what_is_reserved() -> None:
    facts = payload_facts(payload_pb2.Payload(generate=payload_pb2.Generate(prompt="hi", n=3)))
    reserved = cost_of(facts, ANYONE, model(20))
    told = payload_pb2.Generate.FromString(defaults_for_worker(ANYONE, reserved, facts.answers))
    assert (reserved.completion_tokens, told.max_tokens) == (60, 20)


def test_tools_count_as_part_of_the_prompt() -> None:
    plain, shown = (
        payload_facts(
            payload_pb2.Payload(generate=payload_pb2.Generate(chat=CHAT, tools=tools))
        ).prompt_tokens
        for tools in ([], [TOOL] * 3)
    )
    rendered = '{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {}}}\n'
    assert shown - plain > 3 * len(rendered)
