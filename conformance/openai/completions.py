"""Completions of a bare prompt, the older endpoint."""

from __future__ import annotations

import json

from conformance.checks import NotApplicableError, expect, expect_same, shown
from conformance.http_answers import Json, document_of, expect_refused, expect_status, member
from conformance.openai.server import COMPLETIONS, OPENAI, OpenaiServer, choices_of
from conformance.openai.streaming import chunks_of


@OPENAI.check
async def a_completion_has_its_form(server: OpenaiServer) -> None:
    """A completion has object text_completion, and the choice 0 with a text and a finish_reason."""
    document = await _completion(server)
    expect(member(document, "id", str), "'id' is empty")
    expect_same(member(document, "object", str), "text_completion", "object")
    member(document, "created", int)
    member(document, "model", str)
    choice = choices_of(document)[0]
    expect_same(member(choice, "index", int), 0, "index")
    member(choice, "text", str)
    member(choice, "finish_reason", str)
    usage = member(document, "usage", dict)
    total = member(usage, "prompt_tokens", int) + member(usage, "completion_tokens", int)
    expect_same(member(usage, "total_tokens", int), total, "total_tokens")


@OPENAI.check
async def a_streamed_completion_has_the_same_text(server: OpenaiServer) -> None:
    """The chunks of a completion make up the text of the plain one at temperature 0."""
    plain = member(choices_of(await _completion(server))[0], "text", str)
    chunks = chunks_of(await server.stream(COMPLETIONS, await _body(server)))
    for chunk in chunks:
        expect_same(member(chunk, "object", str), "text_completion", "object")
    choices = [choice for chunk in chunks for choice in member(chunk, "choices", list)]
    expect_same("".join(member(one, "text", str) for one in choices), plain, "the text of the stream")
    reasons = [one["finish_reason"] for one in choices if one.get("finish_reason") is not None]
    expect_same(len(reasons), 1, "number of finish_reasons")


@OPENAI.check
async def several_prompts_have_a_choice_each(server: OpenaiServer) -> None:
    """A list of two prompts gives two choices with the indices 0 and 1, or is refused by name."""
    document = await _completion(server, prompt=["Once", "Twice"])
    indices = sorted(member(one, "index", int) for one in choices_of(document))
    expect_same(indices, [0, 1], "indices")


@OPENAI.check
async def a_prompt_of_token_ids_is_taken_or_refused(server: OpenaiServer) -> None:
    """A prompt of three token ids counts three prompt tokens, or is refused in a 4xx."""
    await _completion(server)
    response = await server.post(COMPLETIONS, await _body(server, prompt=[5, 6, 7]))
    if response.status_code != 200:
        expect_refused(response)
        raise NotApplicableError(f"the server refuses token ids: {shown(response.text)}")
    usage = member(document_of(response), "usage", dict)
    expect_same(member(usage, "prompt_tokens", int), 3, "prompt_tokens")


async def _body(server: OpenaiServer, prompt: object = "Once upon a time") -> Json:
    return {"model": await server.generate_model(), "prompt": prompt, "max_tokens": 16, "temperature": 0}


async def _completion(server: OpenaiServer, **fields: object) -> Json:
    response = await server.post(COMPLETIONS, await _body(server, **fields))
    if response.status_code in (404, 405, 501):
        raise NotApplicableError(f"the model has no completions: {shown(response.text)}")
    if fields and response.status_code == 400 and any(name in response.text for name in fields):
        raise NotApplicableError(f"the server refuses {json.dumps(fields)}: {shown(response.text)}")
    expect_status(response, 200)
    return document_of(response)
