"""What Anthropic's documentation shows first, with its Python client; prints what came of it as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import anthropic

WHO: Any = {"model": "tiny-chat", "max_tokens": 60, "messages": [{"role": "user", "content": "Who are you?"}]}
GREEDY: Any = {"extra_body": {"temperature": 0}}
"""Newer clients have no argument for it; the API still does."""

WEATHER: Any = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def main() -> None:
    """Ask the bridge of the first argument."""
    client = anthropic.Anthropic(base_url=sys.argv[1], api_key="none", max_retries=0)
    whole = client.messages.create(**WHO, **GREEDY)
    with client.messages.stream(**WHO, **GREEDY) as stream:
        texts = list(stream.text_stream)
        final = stream.get_final_message()
    called = client.messages.create(
        model="tiny-chat",
        max_tokens=60,
        messages=[{"role": "user", "content": "What is the weather in Rome?"}],
        tools=[WEATHER],
        tool_choice={"type": "any"},
        **GREEDY,
    )
    try:
        client.messages.create(**{**WHO, "model": "nobody"})
        error: list[Any] = []
    except anthropic.APIStatusError as raised:
        error = [type(raised).__name__, bool(raised.request_id)]
    blocks: Any = called.content
    print(
        json.dumps(
            {
                "text": whole.content[0].text,  # type: ignore[union-attr]
                "stop_reason": whole.stop_reason,
                "streamed": "".join(texts),
                "usage": [whole.usage.output_tokens, final.usage.output_tokens],
                "called": called.stop_reason,
                "call": next([block.name, block.input] for block in blocks if block.type == "tool_use"),
                "error": error,
            }
        )
    )


if __name__ == "__main__":
    main()
