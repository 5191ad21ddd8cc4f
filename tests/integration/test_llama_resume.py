"""An answer that broke anywhere goes on, with what was delivered, to the very end it would have had.

The model has random weights in 32 bits: its answers are any bytes, so that characters and stop
texts are cut at every place, and rounding moves its logits by some hundred-thousandths.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from inference_mesh.errors import InputTooLongError, InvalidInputError
from inference_mesh.v1 import payload_pb2
from tests.support.exact_model import write_exact
from tests.support.gguf_files import llama_file, token_bytes
from tests.support.llama_engine import (
    END_TOKENS,
    ENDLESS,
    EXACT,
    FULL,
    GREEDY,
    STEADY,
    TINY_CHAT,
    Answer,
    ask,
    ask_all,
    generate,
    question,
    running,
    sampled,
)
from tests.support.logits import Logits, first_difference
from workers.llama.engine import LlamaEngine
from workers.llama.text_stream import TextStream

PROMPT = "Once upon a time"
CLOSE = 1e-3
CLEAR = {0: -100, 1: -100, 2: -100}
ASCII_ONLY = {**CLEAR, **dict.fromkeys(range(97, 259), -100)}
"""Forbids the tokens of all bytes but those of printable ASCII."""

PENALTIES: dict[str, Any] = {"repetition_penalty": 1.3, "frequency_penalty": 0.5, "presence_penalty": 0.5}
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
)
STOP = payload_pb2.FINISH_REASON_STOP
LENGTH = payload_pb2.FINISH_REASON_LENGTH

Broken = tuple[str, list[int]]
"""Text and tokens that were delivered before a break."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "random.gguf"
    path.write_bytes(llama_file())
    return path


@pytest.fixture
async def engine(model: Path) -> AsyncIterator[LlamaEngine]:
    async with running(model, max_queue=256, placement=EXACT) as loaded:
        yield loaded


def _breaks(whole: Answer, stop: Sequence[str] = ()) -> Iterator[Broken]:
    """What was delivered before each token of an answer."""
    pieces, stream = token_bytes(), TextStream(stop)
    text, tokens = "", list[int]()
    for token in whole.tokens:
        yield text, list(tokens)
        sent = stream.add(token, pieces[token])
        text, tokens = text + sent.text, [*tokens, *sent.tokens]


async def _resumed(engine: LlamaEngine, broken: Sequence[Broken], **fields: Any) -> list[Answer]:
    """The rest of each answer, computed from nothing: no tenant has the prefix of another."""
    requests = [
        generate(PROMPT, delivered_tokens=tokens, tenant=f"after {len(tokens)}", **fields)
        for _, tokens in broken
    ]
    return await ask_all(engine, *requests)


def _facts(answer: Answer) -> tuple[Any, ...]:
    """What must not depend on a break, beside the text."""
    last = answer.chunks[-1].output.generate
    usage = answer.usage
    return usage.prompt_tokens, usage.completion_tokens, last.finish_reason, last.length_reason


@pytest.mark.parametrize(
    "fields",
    [
        {"sampling": ENDLESS},
        {"sampling": sampled(3, logit_bias=CLEAR)},
        {"sampling": sampled(4)},
        {"sampling": sampled(5, logit_bias=CLEAR, **PENALTIES)},
        {"sampling": payload_pb2.Sampling(temperature=0, **PENALTIES)},
        {"sampling": sampled(6, logit_bias=CLEAR), "json_schema": SCHEMA},
        {"sampling": GREEDY, "json_schema": SCHEMA},
    ],
    ids=["greedy", "seeded", "seeded to its end", "penalties", "greedy penalties", "schema", "greedy schema"],
)
async def test_an_answer_broken_after_any_message_goes_on_to_the_same_text(
    engine: LlamaEngine, fields: dict[str, Any]
) -> None:
    fields = {"max_tokens": 60, **fields}
    whole = await ask(engine, generate(PROMPT, **fields))
    broken = list(_breaks(whole))
    assert len(broken) > 15
    for (text, tokens), rest in zip(broken, await _resumed(engine, broken, **fields), strict=True):
        assert (text + rest.text, (*tokens, *rest.tokens)) == (whole.text, whole.tokens)
        assert _facts(rest) == _facts(whole)


@pytest.mark.parametrize("seed", range(4))
async def test_a_stop_text_across_the_break_ends_the_answer_where_it_would_have(
    engine: LlamaEngine, seed: int
) -> None:
    fields: dict[str, Any] = {"max_tokens": 60, "sampling": sampled(seed, logit_bias=ASCII_ONLY)}
    free = await ask(engine, generate(PROMPT, **fields))
    # The first is only begun, at many places: its beginning is held back, and sent when it fails.
    fields["stop"] = [free.text[10:14] + "\n", free.text[30:36]]
    whole = await ask(engine, generate(PROMPT, **fields))
    assert (whole.text, whole.finish_reason) == (free.text[:30], STOP)
    broken = list(_breaks(whole, fields["stop"]))
    for (text, tokens), rest in zip(broken, await _resumed(engine, broken, **fields), strict=True):
        assert (text + rest.text, (*tokens, *rest.tokens)) == (whole.text, whole.tokens)
        assert _facts(rest) == _facts(whole)


async def test_tokens_that_end_within_a_character_go_on_with_that_character() -> None:
    async with running(placement=EXACT) as engine:
        whole = await ask(engine, question("Show me a dog emoji.", max_tokens=40))
        rests = [
            await ask(engine, question("Show me a dog emoji.", max_tokens=40, delivered_tokens=delivered))
            for delivered in (whole.tokens[:count] for count in range(len(whole.tokens)))
        ]
    assert any(ord(character) > 0xFFFF for character in whole.text)
    assert all(whole.text.endswith(rest.text) for rest in rests)
    assert all("\ufffd" not in rest.text for rest in rests)
    lengths = [len(rest.text) for rest in rests]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"max_tokens": 20}, payload_pb2.LENGTH_REASON_MAX_TOKENS),
        ({"max_tokens": 30, "max_tokens_limit": 20}, payload_pb2.LENGTH_REASON_CLAMP),
        ({"max_tokens": 30, "token_budget": 36}, payload_pb2.LENGTH_REASON_TOKEN_BUDGET),
    ],
)
async def test_an_answer_that_was_delivered_whole_ends_at_once_by_the_limit_that_ended_it(
    engine: LlamaEngine, fields: dict[str, Any], reason: payload_pb2.LengthReason
) -> None:
    sampling = sampled(3, logit_bias=CLEAR)
    whole = await ask(engine, generate(PROMPT, sampling=sampling, **fields))
    assert whole.usage.completion_tokens == 20
    rest = await ask(engine, generate(PROMPT, sampling=sampling, delivered_tokens=whole.tokens, **fields))
    assert (rest.text, rest.tokens) == ("", ())
    assert _facts(rest) == _facts(whole)
    assert rest.chunks[-1].output.generate.length_reason == reason


async def test_an_answer_that_filled_the_context_ends_at_once(model: Path) -> None:
    fields: dict[str, Any] = {"max_tokens": 500, "sampling": sampled(3, logit_bias=CLEAR)}
    async with running(model, context_tokens=64, placement=EXACT) as engine:
        whole = await ask(engine, generate(PROMPT, **fields))
        assert whole.chunks[-1].output.generate.length_reason == payload_pb2.LENGTH_REASON_CONTEXT
        rest = await ask(engine, generate(PROMPT, delivered_tokens=whole.tokens, **fields))
        assert _facts(rest) == _facts(whole)
        with pytest.raises(InputTooLongError):
            await ask(engine, generate(PROMPT, delivered_tokens=[*whole.tokens, 5], **fields))


async def test_more_than_was_asked_for_ends_at_once_and_is_counted(engine: LlamaEngine) -> None:
    rest = await ask(engine, generate(PROMPT, max_tokens=5, delivered_tokens=[7] * 9))
    assert (rest.text, rest.finish_reason, rest.usage.completion_tokens) == ("", LENGTH, 9)


async def test_the_message_that_says_the_end_is_all_that_is_left_when_only_it_was_lost(
    engine: LlamaEngine,
) -> None:
    async with running(placement=EXACT) as chat:
        whole = await ask(chat, question(STEADY[0], max_tokens=40))
        assert whole.finish_reason == STOP
        rest = await ask(chat, question(STEADY[0], max_tokens=40, delivered_tokens=whole.tokens))
    assert (rest.text, rest.tokens) == ("", ())
    assert _facts(rest) == _facts(whole)


async def test_an_answer_may_break_again_and_again(engine: LlamaEngine) -> None:
    fields: dict[str, Any] = {"max_tokens": 60, "sampling": sampled(9, logit_bias=CLEAR)}
    whole = await ask(engine, generate(PROMPT, **fields))
    text, tokens = "", list[int]()
    for number in range(100):
        rest = await ask(
            engine, generate(PROMPT, delivered_tokens=tokens, tenant=f"attempt {number}", **fields)
        )
        first = next(chunk for chunk in rest.chunks if chunk.has_output).output.generate
        text, tokens = text + first.text, [*tokens, *first.tokens]
        if first.finish_reason:
            break
    assert (text, tuple(tokens)) == (whole.text, whole.tokens)


async def test_delivered_tokens_that_the_schema_forbids_are_refused(engine: LlamaEngine) -> None:
    with pytest.raises(InvalidInputError):
        await ask(engine, generate(PROMPT, json_schema=SCHEMA, delivered_tokens=[7, 7, 7]))


async def test_where_greedy_answers_part_their_two_best_logits_were_nearly_equal(
    tmp_path: Path, record_property: Any
) -> None:
    exact = write_exact(TINY_CHAT, tmp_path / "exact.gguf")
    logits = Logits(exact, FULL)
    gaps = []
    async with running(exact, max_queue=256, placement=FULL) as engine:
        for prompt in ("Once upon a time", "The fox", "I like", "Hello"):
            whole = await ask(engine, generate(prompt, max_tokens=160, sampling=ENDLESS))
            delivered = [whole.tokens[:at] for at in range(0, len(whole.tokens), 10)]
            requests = [
                generate(
                    prompt, max_tokens=160, sampling=ENDLESS, delivered_tokens=tokens, tenant=f"{len(tokens)}"
                )
                for tokens in delivered
            ]
            for tokens, rest in zip(delivered, await ask_all(engine, *requests), strict=True):
                place = first_difference(whole.tokens, (*tokens, *rest.tokens))
                if place is not None:
                    gaps.append(logits.gap(prompt, whole.tokens[:place], END_TOKENS))
    logits.close()
    record_property("distances of the two best logits", gaps)
    assert max(gaps, default=0.0) <= CLOSE
