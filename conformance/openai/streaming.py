"""Chat completions as server-sent events."""

from __future__ import annotations

import json

from conformance.checks import BreachError, expect, expect_same, shown
from conformance.event_stream import EventStream
from conformance.http_answers import Json, member
from conformance.openai.chat import word_of_an_answer
from conformance.openai.server import CHAT, OPENAI, UNKNOWN_MODEL, OpenaiServer, error_of, skip_if_refused

DONE = "[DONE]"


@OPENAI.check
async def a_stream_is_server_sent_events(server: OpenaiServer) -> None:
    """A stream is text/event-stream of chat.completion.chunk objects, and ends with [DONE]."""
    stream = await server.stream(CHAT, await server.chat_body())
    kind = stream.content_type
    expect(kind.startswith("text/event-stream"), f"content-type is {kind!r}; text/event-stream was expected")
    expect_same(stream.events[-1], DONE, "the last event")
    for chunk in chunks_of(stream):
        expect_same(member(chunk, "object", str), "chat.completion.chunk", "object")
        member(chunk, "created", int)
        member(chunk, "model", str)
        member(chunk, "choices", list)


@OPENAI.check
async def chunks_of_a_stream_have_one_id(server: OpenaiServer) -> None:
    """All chunks of a stream have the same id, and those of another stream another one."""
    body = await server.chat_body()
    first, second = [
        {member(chunk, "id", str) for chunk in chunks_of(await server.stream(CHAT, body))} for _ in range(2)
    ]
    expect_same(len(first), 1, "number of ids in a stream")
    expect(first != second, f"two streams have the id {first}")


@OPENAI.check
async def a_stream_begins_with_the_role(server: OpenaiServer) -> None:
    """The first delta has the role "assistant"."""
    deltas = _deltas(chunks_of(await server.stream(CHAT, await server.chat_body())))
    expect_same(deltas[0].get("role"), "assistant", "role of the first delta")


@OPENAI.check
async def a_stream_tells_once_why_it_ends(server: OpenaiServer) -> None:
    """Exactly one chunk has a finish_reason, and no text comes after it."""
    choices = _choices(chunks_of(await server.stream(CHAT, await server.chat_body())))
    places = [place for place, one in enumerate(choices) if one.get("finish_reason") is not None]
    expect_same(len(places), 1, "number of chunks with a finish_reason")
    after = "".join(str(one["delta"].get("content") or "") for one in choices[places[0] + 1 :])
    expect_same(after, "", "the text after the finish_reason")


@OPENAI.check
async def every_chunk_has_a_choice(server: OpenaiServer) -> None:
    """Where no usage is asked for, each chunk has a choice, for clients that read choices[0]."""
    for chunk in chunks_of(await server.stream(CHAT, await server.chat_body())):
        expect(chunk["choices"], f"there is a chunk without choices: {shown(chunk)}")


@OPENAI.check
async def a_stream_has_the_text_of_the_plain_answer(server: OpenaiServer) -> None:
    """The deltas make up the text that the same request at temperature 0 has without a stream."""
    plain = await server.chat_text()
    found = text_of_chunks(chunks_of(await server.stream(CHAT, await server.chat_body())))
    expect_same(found, plain, "the text of the stream")


@OPENAI.check
async def a_stream_keeps_max_tokens(server: OpenaiServer) -> None:
    """A stream of max_tokens = 1 ends with the finish_reason "length"."""
    choices = _choices(chunks_of(await server.stream(CHAT, await server.chat_body(max_tokens=1))))
    reasons = [one["finish_reason"] for one in choices if one.get("finish_reason") is not None]
    expect_same(reasons, ["length"], "finish_reasons")


@OPENAI.check
async def a_stream_ends_before_a_stop_text(server: OpenaiServer) -> None:
    """A text of `stop` is in no delta, nor in what they make up."""
    stop = await word_of_an_answer(server)
    text = text_of_chunks(chunks_of(await server.stream(CHAT, await server.chat_body(stop=[stop]))))
    expect(stop not in text, f"the stop {stop!r} is in the text {shown(text)}")


@OPENAI.check
async def include_usage_adds_a_last_chunk(server: OpenaiServer) -> None:
    """With include_usage the last chunk has usage and no choices, and no other chunk has usage."""
    body = await server.chat_body(stream=True, stream_options={"include_usage": True})
    skip_if_refused(await server.post(CHAT, body), "stream_options")
    *others, last = chunks_of(await server.stream(CHAT, body))
    expect_same(member(last, "choices", list), [], "choices of the last chunk")
    usage = member(last, "usage", dict)
    total = member(usage, "prompt_tokens", int) + member(usage, "completion_tokens", int)
    expect(usage["prompt_tokens"] > 0, "prompt_tokens is 0")
    expect_same(member(usage, "total_tokens", int), total, "total_tokens")
    early = [chunk["usage"] for chunk in others if chunk.get("usage") is not None]
    expect(not early, f"{len(early)} chunks before the last have usage, the first {shown(early[:1])}")


@OPENAI.check
async def a_stream_counts_the_tokens_of_the_plain_answer(server: OpenaiServer) -> None:
    """usage of a stream is that of the same request at temperature 0 without one."""
    plain = member(await server.chat(), "usage", dict)
    body = await server.chat_body(stream=True, stream_options={"include_usage": True})
    skip_if_refused(await server.post(CHAT, body), "stream_options")
    usage = member(chunks_of(await server.stream(CHAT, body))[-1], "usage", dict)
    for name in ("prompt_tokens", "completion_tokens"):
        expect_same(member(usage, name, int), member(plain, name, int), name)


@OPENAI.check
async def a_stream_of_n_choices_ends_each(server: OpenaiServer) -> None:
    """With n = 2 the chunks carry the indices 0 and 1, and each choice has one finish_reason."""
    body = await server.chat_body(n=2, temperature=1, max_tokens=8)
    skip_if_refused(await server.post(CHAT, body), "n")
    choices = _choices(chunks_of(await server.stream(CHAT, body)))
    ended = sorted(member(one, "index", int) for one in choices if one.get("finish_reason") is not None)
    expect_same(ended, [0, 1], "indices with a finish_reason")


@OPENAI.check
async def a_wrong_request_for_a_stream_is_refused_by_status(server: OpenaiServer) -> None:
    """A stream that cannot begin is refused as an answer is: by a status and JSON, not by an event."""
    no_messages = {"model": await server.generate_model(), "stream": True}
    error_of(await server.post(CHAT, no_messages), 400)
    body = await server.chat_body(model=UNKNOWN_MODEL, stream=True)
    error_of(await server.post(CHAT, body), 404)


@OPENAI.check
async def a_client_that_leaves_a_stream_does_no_harm(server: OpenaiServer) -> None:
    """After a client left a stream at its first bytes, the next call has its whole answer."""
    before = await server.chat_text()
    body = await server.chat_body(max_tokens=200, stream=True)
    async with server.http.stream("POST", CHAT, json=body) as response:
        expect_same(response.status_code, 200, "status")
        async for _ in response.aiter_bytes():
            break
    expect_same(await server.chat_text(), before, "the next text")


def chunks_of(stream: EventStream) -> list[Json]:
    """The JSON of each event but [DONE]. Raises BreachError if there is none, or one is an error."""
    chunks: list[Json] = [json.loads(event) for event in stream.events if event != DONE]
    expect(chunks, "there is no chunk in the stream")
    for chunk in chunks:
        if "error" in chunk:
            raise BreachError(f"the stream has an error: {shown(chunk)}")
    return chunks


def text_of_chunks(chunks: list[Json]) -> str:
    """What the deltas of the choice 0 make up."""
    return "".join(str(delta.get("content") or "") for delta in _deltas(chunks))


def _deltas(chunks: list[Json]) -> list[Json]:
    return [member(one, "delta", dict) for one in _choices(chunks) if one.get("index") == 0]


def _choices(chunks: list[Json]) -> list[Json]:
    return [choice for chunk in chunks for choice in member(chunk, "choices", list)]
