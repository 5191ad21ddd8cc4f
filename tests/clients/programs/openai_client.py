"""What OpenAI's own documentation shows first, with its Python client; prints what came of it as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import openai
from pydantic import BaseModel

WHO: Any = [{"role": "user", "content": "Who are you?"}]
CHAT: Any = {"model": "tiny-chat", "messages": WHO, "temperature": 0}
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class City(BaseModel):
    """A structured output."""

    city: str


def sync_results(client: openai.OpenAI) -> dict[str, Any]:
    """By the client without asyncio."""
    whole = client.chat.completions.create(**CHAT)
    chunks = list(client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}))
    parsed = client.chat.completions.parse(
        model="tiny-chat",
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        response_format=City,
        temperature=0,
    )
    called = client.chat.completions.create(
        model="tiny-chat",
        messages=[{"role": "user", "content": "What is the weather in Rome?"}],
        tools=[WEATHER],
        tool_choice="required",
        temperature=0,
    )
    several = client.chat.completions.create(
        **{**CHAT, "temperature": 1}, n=3, seed=7, logprobs=True, top_logprobs=2
    )
    vectors = client.embeddings.create(model="minilm", input=["a cat", "a dog"])
    floats = client.embeddings.create(model="minilm", input="a cat", encoding_format="float")
    response = client.responses.create(model="tiny-chat", input="Who are you?", temperature=0)
    with client.responses.stream(model="tiny-chat", input="Who are you?", temperature=0) as stream:
        streamed = stream.get_final_response() if [event.type for event in stream] else None
    first = several.choices[0].logprobs
    call = (called.choices[0].message.tool_calls or [])[0]
    return {
        "models": [model.id for model in client.models.list()],
        "text": whole.choices[0].message.content,
        "request_id": whole._request_id,  # noqa: SLF001 - its documented name
        "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices),
        "usage": [chunks[-1].usage.total_tokens if chunks[-1].usage else None, whole.usage.total_tokens],  # type: ignore[union-attr]
        "parsed": parsed.choices[0].message.parsed is not None,
        "call": [call.function.name, json.loads(call.function.arguments)],  # type: ignore[union-attr]
        "called": called.choices[0].finish_reason,
        "answers": [choice.index for choice in several.choices],
        "top_logprobs": len(first.content[0].top_logprobs) if first and first.content else 0,
        "vectors": [len(one.embedding) for one in vectors.data],
        "same_vector": max(
            abs(a - b) for a, b in zip(vectors.data[0].embedding, floats.data[0].embedding, strict=True)
        ),
        "completion": client.completions.create(
            model="tiny-chat", prompt="Once", max_tokens=3
        ).usage.completion_tokens,  # type: ignore[union-attr]
        "response": response.output_text,
        "response_streamed": streamed.output_text if streamed else "",
    }


def errors(client: openai.OpenAI) -> dict[str, Any]:
    """The classes of exceptions that wrong calls raise."""
    found = {}
    for name, call in {
        "unknown model": lambda: client.chat.completions.create(**{**CHAT, "model": "nobody"}),
        "no messages": lambda: client.chat.completions.create(**{**CHAT, "messages": []}),
        "too hot": lambda: client.chat.completions.create(**{**CHAT, "temperature": 9}),
    }.items():
        try:
            call()
        except openai.APIStatusError as error:
            found[name] = [type(error).__name__, error.param, bool(error.request_id)]
    return found


async def async_text(base_url: str) -> str:
    """The text of a stream by the client with asyncio."""
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        stream = await client.chat.completions.create(**CHAT, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


def main() -> None:
    """Ask the bridge of the first argument."""
    base_url = f"{sys.argv[1]}/v1"
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        found = {**sync_results(client), "errors": errors(client), "async": asyncio.run(async_text(base_url))}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
