"""Several answers to one prompt, log probabilities, grammars and tool calls, on a real model."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from inference_mesh.errors import InvalidInputError, MeshError, OverloadedError, UnsupportedError
from inference_mesh.v1 import payload_pb2
from tests.support.gguf_files import llama_file
from tests.support.llama_engine import (
    ENDLESS,
    EXACT,
    QUESTIONS,
    STEADY,
    TINY_CHAT,
    Counts,
    after_history,
    ask,
    begun,
    generate,
    question,
    running,
    sampled,
    until,
)
from tests.support.logits import Logits
from workers.calls import whole
from workers.engine import EngineRequest, Stage
from workers.llama.engine import LlamaEngine

STOP = payload_pb2.FINISH_REASON_STOP
LENGTH = payload_pb2.FINISH_REASON_LENGTH
TOOL_CALLS = payload_pb2.FINISH_REASON_TOOL_CALLS
REQUIRED = payload_pb2.TOOL_CHOICE_MODE_REQUIRED
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]}
WEATHER = payload_pb2.Tool(name="get_weather", parameters=json.dumps(CITY))
ADD = payload_pb2.Tool(
    name="add",
    parameters=json.dumps({"properties": {"a": {"type": "integer", "maximum": 9}}, "required": ["a"]}),
)
RAIN = "What is the weather in Rome?"


@pytest.fixture
async def engine() -> AsyncIterator[LlamaEngine]:
    async with running() as loaded:
        yield loaded


async def answered(engine: LlamaEngine, request: EngineRequest) -> payload_pb2.Generated:
    """The whole answer, with the others in it."""
    return (await whole(engine.submit(request))).output.generate


async def test_the_answers_to_one_prompt_are_those_of_its_seeds_and_the_first_is_that_of_the_seed(
    engine: LlamaEngine,
) -> None:
    fields: dict[str, Any] = {"sampling": sampled(11), "max_tokens": 30}
    several = await answered(engine, question(QUESTIONS[0], n=4, tenant="several", **fields))
    alone = await answered(engine, question(QUESTIONS[0], tenant="alone", **fields))
    again = await answered(engine, question(QUESTIONS[0], n=4, tenant="again", **fields))
    answers = [several, *several.others]
    assert [one.index for one in answers] == [0, 1, 2, 3]
    assert len({one.text for one in answers}) == 4
    assert several.text == alone.text
    assert [one.text for one in again.others] == [one.text for one in several.others]
    assert all(one.finish_reason for one in answers)


@pytest.mark.parametrize("text", ["Who are you?", "long"])
async def test_the_prompt_of_several_answers_is_computed_and_counted_once(
    engine: LlamaEngine, text: str
) -> None:
    stages = list[Stage]()
    asked = after_history if text == "long" else question
    request = asked("Hello.", n=5, stages=stages)
    last = (await whole(engine.submit(request))).usage
    assert last is not None
    computed = [
        int(stage.facts["mesh.prompt_tokens"] - stage.facts["mesh.cached_tokens"])
        for stage in stages
        if stage.name == "prefill"
    ]
    # Of the others, only the last token of the prompt: its logits are needed.
    assert computed == [last.prompt_tokens, 1, 1, 1, 1]
    made = sum(int(stage.facts["mesh.completion_tokens"]) for stage in stages if stage.name == "decode")
    assert (last.completion_tokens, last.cached_tokens) == (made, 0)


async def test_a_stream_of_several_answers_tells_each_piece_which_it_is_of(engine: LlamaEngine) -> None:
    request = question(QUESTIONS[0], n=3, sampling=sampled(11), max_tokens=20)
    chunks = [chunk async for chunk in engine.submit(request)]
    pieces = [chunk.output.generate for chunk in chunks if chunk.has_output]
    joined = await answered(engine, request)
    for one in (joined, *joined.others):
        own = [piece for piece in pieces if piece.index == one.index]
        assert ("".join(piece.text for piece in own), own[-1].finish_reason) == (one.text, one.finish_reason)
        assert not any(piece.finish_reason for piece in own[:-1])
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


async def test_more_answers_than_slots_are_all_made() -> None:
    async with running(slots=2) as engine:
        one = await answered(engine, question(STEADY[0], n=7))
        assert {other.text for other in one.others} == {one.text}
        assert len(one.others) == 6
        assert (engine.load_now().queued, engine.load_now().running) == (0, 0)


async def test_a_caller_who_leaves_ends_all_answers() -> None:
    async with running(slots=4) as engine:
        chunks = await begun(engine, question(QUESTIONS[0], n=4, sampling=ENDLESS, max_tokens=1500))
        await until(lambda: engine.load_now().running == 4)
        await chunks.aclose()
        await until(lambda: engine.load_now().running == 0)
        assert engine.load_now().queued == 0


async def test_every_answer_takes_a_place_in_the_queue() -> None:
    async with running(slots=2, max_queue=3) as engine:
        chunks = await begun(engine, question(QUESTIONS[0], n=4, sampling=ENDLESS, max_tokens=1500))
        with pytest.raises(OverloadedError):
            await ask(engine, question(STEADY[0], n=2))
        await ask_one_more(engine)
        await chunks.aclose()
        with pytest.raises(InvalidInputError):
            await ask(engine, question(STEADY[0], n=6))
        assert len((await answered(engine, question(STEADY[0], n=5))).others) == 4


async def ask_one_more(engine: LlamaEngine) -> None:
    """The queue has room for one; it is left at once."""
    chunks = engine.submit(question(STEADY[0]))
    assert not (await anext(chunks)).has_output
    await chunks.aclose()  # type: ignore[attr-defined]


async def test_the_token_budget_holds_for_all_answers_together_and_the_clamp_for_each() -> None:
    async with running() as engine:
        budget = question("Who are you?", n=4, sampling=ENDLESS, max_tokens=50, token_budget=12 + 4 * 6 + 3)
        clamped = question("Who are you?", n=2, sampling=ENDLESS, max_tokens=50, max_tokens_limit=5)
        for request, tokens, reason in (
            (budget, 6, payload_pb2.LENGTH_REASON_TOKEN_BUDGET),
            (clamped, 5, payload_pb2.LENGTH_REASON_CLAMP),
        ):
            one = await answered(engine, request)
            found = {(len(each.tokens), each.length_reason) for each in (one, *one.others)}
            assert found == {(tokens, reason)}


async def test_log_probabilities_are_the_models_own_whatever_changes_its_choice() -> None:
    prompt = "Once upon a time"
    biased_sampling = payload_pb2.Sampling(temperature=0, logit_bias={65: 100.0})
    async with running(placement=EXACT) as engine:
        free = await answered(engine, generate(prompt, max_tokens=6, top_logprobs=3))
        biased = await answered(
            engine, generate(prompt, max_tokens=1, top_logprobs=3, sampling=biased_sampling)
        )
    logits = Logits(TINY_CHAT, EXACT)
    expected = [logits.after(prompt, free.tokens[:at]) for at in range(len(free.tokens))]
    logits.close()
    for one, token, row in zip(free.logprobs, free.tokens, expected, strict=True):
        probabilities = row - math.log(sum(math.exp(value) for value in row.tolist()))
        assert one.token == token == one.top[0].token == int(row.argmax())
        assert one.logprob == pytest.approx(float(probabilities[token]), abs=0.05)
        assert [top.token for top in one.top] == row.argsort()[::-1][:3].tolist()
    assert biased.tokens[0] == 65
    assert biased.logprobs[0].top[0].token == free.tokens[0]
    assert biased.logprobs[0].logprob < biased.logprobs[0].top[0].logprob


@pytest.mark.parametrize("stop", [[], ["mesh"], ["model of the moon"]])
async def test_every_token_that_is_sent_has_its_log_probability_in_the_same_piece(
    engine: LlamaEngine, stop: list[str]
) -> None:
    answer = await ask(engine, question("Who are you?", top_logprobs=0, stop=stop))
    pieces = [chunk.output.generate for chunk in answer.chunks if chunk.has_output]
    assert [list(piece.tokens) for piece in pieces] == [
        [one.token for one in piece.logprobs] for piece in pieces
    ]
    assert b"".join(one.text for piece in pieces for one in piece.logprobs).startswith(answer.text.encode())
    assert pieces[-1].stop_text == ("mesh" if stop == ["mesh"] else "")


async def test_nobody_pays_for_log_probabilities_that_he_did_not_ask_for(engine: LlamaEngine) -> None:
    assert not (await answered(engine, question("Who are you?"))).logprobs


@pytest.mark.parametrize("seed", range(4))
async def test_an_answer_with_a_grammar_matches_it(engine: LlamaEngine, seed: int) -> None:
    grammar = 'root ::= name ": " [0-9]{2,4} " €" ("!" | "?")\nname ::= [A-ZÄ] [a-zäß]{1,6}'
    request = question("Tell me a price.", grammar=grammar, sampling=sampled(seed), max_tokens=60)
    one = await answered(engine, request)
    assert re.fullmatch("[A-ZÄ][a-zäß]{1,6}: [0-9]{2,4} €[!?]", one.text)
    assert one.finish_reason == STOP


async def test_a_grammar_that_becomes_too_ambiguous_fails_its_own_request_alone(engine: LlamaEngine) -> None:
    grammar = 'root ::= "a" root "b" | "a" root "c" | "a" root "d"'
    others = asyncio.gather(*(ask(engine, question(text, max_tokens=60)) for text in QUESTIONS[:4]))
    with pytest.raises(InvalidInputError, match="ambiguous"):
        await ask(engine, question("Hello.", grammar=grammar, max_tokens=500))
    assert all(answer.text for answer in await others)


async def test_a_broken_answer_with_a_grammar_goes_on_to_the_same_text(tmp_path: Path) -> None:
    path = tmp_path / "random.gguf"
    path.write_bytes(llama_file())
    fields: dict[str, Any] = {
        "grammar": 'root ::= ([a-zé]{3} "-")+',
        "max_tokens": 40,
        "sampling": sampled(3),
    }
    async with running(path) as engine:
        one = await answered(engine, generate("Once", **fields))
        for at in range(0, len(one.tokens), 5):
            delivered = one.tokens[:at]
            rest = await answered(
                engine, generate("Once", delivered_tokens=delivered, tenant=str(at), **fields)
            )
            assert [*delivered, *rest.tokens] == list(one.tokens)
        with pytest.raises(InvalidInputError):
            await ask(engine, generate("Once", delivered_tokens=[5], **fields))


async def test_a_question_that_needs_a_tool_is_answered_with_its_call(engine: LlamaEngine) -> None:
    one = await answered(engine, question(RAIN, tools=[WEATHER, ADD]))
    assert [(call.name, json.loads(call.arguments)) for call in one.tool_calls] == [
        ("get_weather", {"city": "Rome"})
    ]
    assert (one.text, one.finish_reason) == ("", TOOL_CALLS)
    assert re.fullmatch("[A-Za-z0-9]{9}", one.tool_calls[0].id)
    hidden = await answered(
        engine,
        question(
            RAIN, tools=[WEATHER], tool_choice=payload_pb2.ToolChoice(mode=payload_pb2.TOOL_CHOICE_MODE_NONE)
        ),
    )
    assert not hidden.tool_calls
    assert hidden.finish_reason == STOP


async def test_a_call_that_broke_anywhere_is_made_once(engine: LlamaEngine) -> None:
    answer = await ask(engine, question(RAIN, tools=[WEATHER]))
    sent = list[int]()
    for chunk in answer.chunks:
        rest = await answered(
            engine, question(RAIN, tools=[WEATHER], delivered_tokens=sent, tenant=str(len(sent)))
        )
        had_call = any(
            piece.output.generate.tool_calls for piece in answer.chunks[: answer.chunks.index(chunk)]
        )
        assert len(rest.tool_calls) == (0 if had_call else 1)
        assert (rest.text, rest.finish_reason) == ("", TOOL_CALLS)
        sent += chunk.output.generate.tokens


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["", "add", "get_weather"])
async def test_a_call_that_is_required_is_made_and_matches_its_schema(
    engine: LlamaEngine, name: str, seed: int
) -> None:
    choice = payload_pb2.ToolChoice(mode=REQUIRED, name=name)
    request = question(
        "Hello.", tools=[WEATHER, ADD], tool_choice=choice, sampling=sampled(seed), max_tokens=200
    )
    one = await answered(engine, request)
    (call,) = one.tool_calls
    arguments = json.loads(call.arguments)
    assert call.name == (name or call.name)
    assert one.finish_reason == TOOL_CALLS
    if call.name == "add":
        assert arguments["a"] <= 9
    else:
        assert len(arguments["city"]) <= 12


async def test_what_a_tool_gave_is_read_by_the_model(engine: LlamaEngine) -> None:
    call = payload_pb2.ToolCall(id="abc", name="get_weather", arguments='{"city": "Rome"}')
    messages = [
        payload_pb2.ChatMessage(role="user", content=RAIN),
        payload_pb2.ChatMessage(role="assistant", tool_calls=[call]),
        payload_pb2.ChatMessage(role="tool", content="sunny", tool_call_id="abc"),
    ]
    with_calls = generate(chat=payload_pb2.Chat(messages=messages), tools=[WEATHER], max_tokens=20)
    body = '{"name": "get_weather", "arguments": {"city": "Rome"}}'
    written = f"<|im_start|>assistant\n<tool_call>\n{body}\n</tool_call>"
    usage = (await whole(engine.submit(with_calls))).usage
    assert usage is not None
    first = (await whole(engine.submit(question(RAIN, tools=[WEATHER], max_tokens=20)))).usage
    assert first is not None
    more = await whole(
        engine.submit(
            generate(
                f"{written}<|im_end|>\n<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>\n"
            )
        )
    )
    assert usage.prompt_tokens == first.prompt_tokens + more.prompt_tokens


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 17},
        {"n": 2, "delivered_tokens": [5]},
        {"top_logprobs": 21},
        {"grammar": "root ::= root"},
        {"grammar": 'root ::= "a"', "json_schema": "{}"},
        {"grammar": 'root ::= "a"', "tools": [WEATHER]},
        {"json_schema": "{}", "tools": [WEATHER]},
        {"tools": [WEATHER, WEATHER]},
        {"tools": [payload_pb2.Tool(name="")]},
        {"tools": [payload_pb2.Tool(name="a b")]},
        {"tools": [payload_pb2.Tool(name="a" * 65)]},
        {"tools": [payload_pb2.Tool(name="a", parameters="{")]},
        {"tools": [payload_pb2.Tool(name="a", parameters="[]")]},
        {"tools": [payload_pb2.Tool(name="a", parameters='{"type": "string"}')]},
        {"tools": [payload_pb2.Tool(name="a", description="x" * 70_000)]},
        {"tools": [payload_pb2.Tool(name=f"t{number}") for number in range(129)]},
        {"tools": [WEATHER], "tool_choice": payload_pb2.ToolChoice(mode=REQUIRED, name="add")},
        {"tools": [WEATHER], "tool_choice": payload_pb2.ToolChoice(name="get_weather")},
        {"tools": [WEATHER], "tool_choice": {"mode": 9}},
        {"tool_choice": payload_pb2.ToolChoice(mode=REQUIRED)},
        {
            "tools": [payload_pb2.Tool(name="a", parameters='{"properties": {"x": {"pattern": "a"}}}')],
            "tool_choice": payload_pb2.ToolChoice(mode=REQUIRED),
        },
    ],
)
async def test_fields_that_are_wrong_or_exclude_each_other_are_refused(
    engine: LlamaEngine, fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        await ask(engine, question("Hello.", **fields))
    assert (engine.load_now().queued, engine.load_now().running) == (0, 0)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "tool_calls": [{"name": "add"}]},
        {"role": "assistant", "tool_calls": [{"name": "a b"}]},
        {"role": "assistant", "tool_calls": [{"name": "add", "arguments": "[1]"}]},
        {"role": "assistant", "tool_calls": [{"name": "add", "arguments": "{"}]},
        {"role": "assistant", "tool_calls": [{"name": "add", "id": "x" * 257}]},
        {"role": "assistant", "tool_calls": [{"name": "add"}] * 129},
        {"role": "user", "content": "x", "tool_call_id": "abc"},
        {"role": "tool", "content": "x", "tool_call_id": "x" * 257},
    ],
)
async def test_messages_with_wrong_calls_are_refused(engine: LlamaEngine, message: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        await ask(engine, generate(chat=payload_pb2.Chat(messages=[message])))


async def test_tools_are_taken_with_a_conversation_and_a_template_that_knows_them(tmp_path: Path) -> None:
    path = tmp_path / "random.gguf"
    path.write_bytes(llama_file())
    async with running() as engine:
        with pytest.raises(InvalidInputError):
            await ask(engine, generate("Hello.", tools=[WEATHER]))
    async with running(path) as engine:
        refused: list[MeshError] = []
        for fields in (
            {"tools": [WEATHER]},
            {"chat": payload_pb2.Chat(messages=[{"role": "assistant", "tool_calls": [{"name": "add"}]}])},
        ):
            request = generate(**fields) if "chat" in fields else question("Hello.", **fields)
            with pytest.raises(UnsupportedError) as caught:
                await ask(engine, request)
            refused.append(caught.value)
        assert all("template" in error.message for error in refused)


async def test_each_of_several_answers_has_its_own_calls_and_log_probabilities() -> None:
    counts = Counts()
    async with running(observer=counts) as engine:
        one = await answered(engine, question(RAIN, n=3, tools=[WEATHER], top_logprobs=1))
    for each in (one, *one.others):
        assert [call.name for call in each.tool_calls] == ["get_weather"]
        assert len(each.logprobs) == len(each.tokens)
    assert len({each.tool_calls[0].id for each in (one, *one.others)}) == 3
    assert max(counts.batches) == 3
