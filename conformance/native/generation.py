"""Text in one answer: length, usage, stops, samplers and what is asked besides."""

from __future__ import annotations

import json

from conformance.checks import expect, expect_same
from conformance.native.server import NATIVE, NativeServer
from inference_mesh.v1 import payload_pb2


@NATIVE.check
async def generate_answers_with_text_and_usage(server: NativeServer) -> None:
    """An answer has its text, why it ended, the model, the request's id and the tokens used."""
    answer, generated = await server.generate()
    expect(generated.text or generated.tokens, "there is neither text nor tokens")
    expect(generated.finish_reason != payload_pb2.FINISH_REASON_UNSPECIFIED, "finish_reason is not set")
    expect_same(answer.model, (await server.model(payload_pb2.TASK_GENERATE)).name, "model")
    expect_same(answer.request_id, "conformance-1", "request_id")
    expect(answer.usage.prompt_tokens > 0, "usage.prompt_tokens is 0")
    expect(
        0 < answer.usage.completion_tokens <= 24, f"usage.completion_tokens: {answer.usage.completion_tokens}"
    )


@NATIVE.check
async def generate_keeps_max_tokens(server: NativeServer) -> None:
    """max_tokens = 1 gives one token, FINISH_REASON_LENGTH and the limit that it was."""
    answer, generated = await server.generate(payload_pb2.Generate(max_tokens=1))
    expect_same(answer.usage.completion_tokens, 1, "usage.completion_tokens")
    reason = payload_pb2.FinishReason.Name(generated.finish_reason)
    expect_same(reason, "FINISH_REASON_LENGTH", "finish_reason")
    limit = payload_pb2.LengthReason.Name(generated.length_reason)
    expect_same(limit, "LENGTH_REASON_MAX_TOKENS", "length_reason")


@NATIVE.check
async def generate_is_greedy_at_temperature_0(server: NativeServer) -> None:
    """The same request at temperature 0 gives the same text twice."""
    first, second = (await server.generate())[1], (await server.generate())[1]
    expect_same(second.text, first.text, "the second text")


@NATIVE.check
async def generate_ends_at_a_stop_text(server: NativeServer) -> None:
    """A text of `stop` ends the answer before it, and stop_text names it."""
    _, whole = await server.generate()
    stop = whole.text[len(whole.text) // 2 :][:3]
    expect(stop, "there is no text to stop at")
    _, stopped = await server.generate(payload_pb2.Generate(stop=[stop]))
    expect_same(stopped.text, whole.text[: whole.text.index(stop)], f"the text before the stop {stop!r}")
    expect_same(stopped.stop_text, stop, "stop_text")


@NATIVE.check
async def generate_gives_n_answers(server: NativeServer) -> None:
    """n = 2 gives two answers with the indices 0 and 1."""
    sampling = payload_pb2.Sampling(temperature=0.8, seed=7)
    _, first = await server.generate(payload_pb2.Generate(n=2, sampling=sampling))
    expect_same([first.index, *(one.index for one in first.others)], [0, 1], "indices")


@NATIVE.check
async def generate_tells_logprobs(server: NativeServer) -> None:
    """top_logprobs = 2 gives each token its logprob, at most 0, beside the two most likely ones."""
    _, generated = await server.generate(payload_pb2.Generate(top_logprobs=2, max_tokens=4))
    expect_same(len(generated.logprobs), len(generated.tokens), "number of logprobs")
    for one in generated.logprobs:
        expect(one.logprob <= 1e-6, f"logprob {one.logprob} is above 0")
        expect_same(len(one.top), 2, "number of most likely tokens")
        expect(one.top[0].logprob >= one.top[1].logprob, "the most likely tokens are not in order")


@NATIVE.check
async def generate_follows_a_json_schema(server: NativeServer) -> None:
    """With json_schema the text is JSON of that schema."""
    schema = '{"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}'
    _, generated = await server.generate(payload_pb2.Generate(json_schema=schema, max_tokens=64))
    document = json.loads(generated.text)
    expect(isinstance(document.get("ok"), bool), f"the text is {document!r}")


@NATIVE.check
async def generate_takes_tokens(server: NativeServer) -> None:
    """Tokens that an answer gave are taken as a prompt, and counted."""
    _, generated = await server.generate(payload_pb2.Generate(max_tokens=4))
    request = await server.generate_request()
    request.payload.generate.tokens.ids.extend(generated.tokens)
    answer = await server.infer(request)
    expect_same(answer.usage.prompt_tokens, len(generated.tokens), "usage.prompt_tokens")
