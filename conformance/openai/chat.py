"""Chat completions in one answer: their form, their length, and what a request may have besides."""

from __future__ import annotations

import json
import re

from conformance.checks import NotApplicableError, expect, expect_same, shown
from conformance.http_answers import Json, document_of, expect_status, member
from conformance.openai.server import CHAT, OPENAI, OpenaiServer, choices_of, text_of

FINISH_REASONS = ("stop", "length", "tool_calls", "content_filter", "function_call")


@OPENAI.check
async def chat_has_the_form_of_a_completion(server: OpenaiServer) -> None:
    """A chat's answer has id, object, created and model, and the choice 0 with a text of the assistant."""
    document = await server.chat()
    expect(member(document, "id", str), "'id' is empty")
    expect_same(member(document, "object", str), "chat.completion", "object")
    member(document, "created", int)
    expect(member(document, "model", str), "'model' is empty")
    choices = choices_of(document)
    expect_same(len(choices), 1, "number of choices")
    expect_same(member(choices[0], "index", int), 0, "index")
    expect_same(member(member(choices[0], "message", dict), "role", str), "assistant", "role")
    text_of(document)
    reason = member(choices[0], "finish_reason", str)
    expect(reason in FINISH_REASONS, f"finish_reason is {reason!r}")


@OPENAI.check
async def chat_usage_adds_up(server: OpenaiServer) -> None:
    """usage has prompt_tokens and completion_tokens above 0, and their sum as total_tokens."""
    usage = member(await server.chat(), "usage", dict)
    prompt, completion = member(usage, "prompt_tokens", int), member(usage, "completion_tokens", int)
    expect(prompt > 0, f"prompt_tokens is {prompt}")
    expect(0 < completion <= 24, f"completion_tokens is {completion} of 24 at most")
    expect_same(member(usage, "total_tokens", int), prompt + completion, "total_tokens")


@OPENAI.check
async def answers_have_a_request_id(server: OpenaiServer) -> None:
    """The header x-request-id, which clients log, tells two answers apart."""
    body = await server.chat_body(max_tokens=1)
    first, second = [(await server.post(CHAT, body)).headers.get("x-request-id", "") for _ in range(2)]
    if not first and not second:
        raise NotApplicableError("answers have no x-request-id, which clients can do without")
    expect(first and second and first != second, f"x-request-id is {first!r}, and then {second!r}")


@OPENAI.check
async def max_tokens_is_kept(server: OpenaiServer) -> None:
    """max_tokens = 1 gives one token and the finish_reason "length"."""
    _expect_one_token(
        await server.answered_unless_refused(CHAT, await server.chat_body(max_tokens=1), "max_tokens")
    )


@OPENAI.check
async def max_completion_tokens_is_kept(server: OpenaiServer) -> None:
    """max_completion_tokens, the newer name, does the same."""
    body = await server.chat_body(max_completion_tokens=1)
    del body["max_tokens"]
    _expect_one_token(await server.answered(CHAT, body))


@OPENAI.check
async def a_stop_text_ends_the_answer(server: OpenaiServer) -> None:
    """A text of `stop` is not in the answer, and ends it with the finish_reason "stop"."""
    stop = await word_of_an_answer(server)
    for given in (stop, [stop]):
        document = await server.chat(stop=given)
        expect(stop not in text_of(document), f"the stop {stop!r} is in the text {shown(text_of(document))}")
        expect_same(choices_of(document)[0]["finish_reason"], "stop", "finish_reason")


@OPENAI.check
async def chat_is_repeatable_at_temperature_0(server: OpenaiServer) -> None:
    """The same request at temperature 0 gives the same text twice."""
    first, second = [await server.chat_text() for _ in range(2)]
    expect_same(second, first, "the second text")


@OPENAI.check
async def a_seed_is_accepted(server: OpenaiServer) -> None:
    """A request with a seed is answered."""
    body = await server.chat_body(seed=7, temperature=1)
    await server.answered_unless_refused(CHAT, body, "seed")


@OPENAI.check
async def n_gives_as_many_choices(server: OpenaiServer) -> None:
    """n = 2 gives two choices with the indices 0 and 1, and usage counts both."""
    body = await server.chat_body(n=2, temperature=1, max_tokens=8)
    document = await server.answered_unless_refused(CHAT, body, "n")
    indices = sorted(member(one, "index", int) for one in choices_of(document))
    expect_same(indices, [0, 1], "indices")


@OPENAI.check
async def logprobs_are_told(server: OpenaiServer) -> None:
    """logprobs with top_logprobs = 2 tells each token's logprob, at most 0, beside the likeliest in order."""
    body = await server.chat_body(logprobs=True, top_logprobs=2, max_tokens=4)
    document = await server.answered_unless_refused(CHAT, body, "logprobs")
    content = member(member(choices_of(document)[0], "logprobs", dict), "content", list)
    expect(content, "'content' is empty")
    for one in content:
        _expect_token(one)
        top = member(one, "top_logprobs", list)
        expect(len(top) <= 2, f"{len(top)} top_logprobs; 2 at most were asked for")
        for other in top:
            _expect_token(other)
        values = [other["logprob"] for other in top]
        expect(values == sorted(values, reverse=True), f"top_logprobs are not in order: {values}")


@OPENAI.check
async def hints_do_no_harm(server: OpenaiServer) -> None:
    """The fields user, service_tier, store and prompt_cache_key, which clients send, are tolerated."""
    await server.chat(user="conformance", service_tier="auto", store=False, prompt_cache_key="conformance")


@OPENAI.check
async def metadata_does_no_harm(server: OpenaiServer) -> None:
    """The field metadata is tolerated, or refused by name."""
    body = await server.chat_body(metadata={"suite": "conformance"})
    await server.answered_unless_refused(CHAT, body, "metadata")


@OPENAI.check
async def null_fields_ask_for_nothing(server: OpenaiServer) -> None:
    """Optional fields that are null, as typed clients send them, are as if they were absent."""
    await server.chat(stop=None, top_p=None, stream=None, tools=None, response_format=None, seed=None)


@OPENAI.check
async def content_may_be_a_list_of_parts(server: OpenaiServer) -> None:
    """Content of one text part counts as many prompt tokens as the same text by itself."""
    plain = await server.chat(max_tokens=1)
    parts = [{"type": "text", "text": "Who are you?"}]
    document = await server.chat(max_tokens=1, messages=[{"role": "user", "content": parts}])
    found, wanted = [member(one, "usage", dict)["prompt_tokens"] for one in (document, plain)]
    expect_same(found, wanted, "prompt_tokens")


@OPENAI.check
async def a_conversation_of_several_turns_is_read(server: OpenaiServer) -> None:
    """Messages of user and assistant in turn are accepted, and count as more than the last one alone."""
    last: Json = {"role": "user", "content": "And who are you?"}
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, last]
    alone = member(await server.chat(messages=[last], max_tokens=1), "usage", dict)
    whole = member(await server.chat(messages=turns, max_tokens=1), "usage", dict)
    expect(
        whole["prompt_tokens"] > alone["prompt_tokens"],
        f"prompt_tokens is {whole['prompt_tokens']} with and {alone['prompt_tokens']} without earlier turns",
    )


@OPENAI.check
async def text_beyond_ascii_is_taken(server: OpenaiServer) -> None:
    """A message with letters of many scripts is answered, whether its JSON escapes them or not."""
    content = "Grüße, Привет, こんにちは, 👩‍🚀"
    body = await server.chat_body(messages=[{"role": "user", "content": content}], max_tokens=8)
    counts = []
    for is_escaped in (False, True):
        response = await server.post_bytes(CHAT, json.dumps(body, ensure_ascii=is_escaped).encode())
        expect_status(response, 200)
        counts.append(member(member(document_of(response), "usage", dict), "prompt_tokens", int))
    expect_same(counts[1], counts[0], "prompt_tokens of the escaped text")


async def word_of_an_answer(server: OpenaiServer) -> str:
    """A word from the middle of the greedy answer. Raises NotApplicableError if it has none."""
    words = re.findall(r"\w+", await server.chat_text(), flags=re.ASCII)
    if not words:
        raise NotApplicableError("the greedy answer has no word to stop at")
    return str(words[len(words) // 2])


def _expect_one_token(document: Json) -> None:
    expect_same(member(choices_of(document)[0], "finish_reason", str), "length", "finish_reason")
    expect_same(member(document, "usage", dict).get("completion_tokens"), 1, "completion_tokens")


def _expect_token(one: Json) -> None:
    member(one, "token", str)
    expect(float(one["logprob"]) <= 1e-6, f"logprob {one['logprob']} is above 0")
    expect(one.get("bytes") is None or isinstance(one["bytes"], list), f"bytes is {shown(one['bytes'])}")
