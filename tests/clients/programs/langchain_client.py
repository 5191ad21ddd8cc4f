"""LangChain's chat model and embeddings on OpenAI's API; prints what came of it as JSON."""

from __future__ import annotations

import json
import sys

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


@tool
def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"sunny in {city}"


def main() -> None:
    """Ask the bridge of the first argument."""
    base_url = f"{sys.argv[1]}/v1"
    chat = ChatOpenAI(base_url=base_url, api_key="none", model="tiny-chat", temperature=0, max_retries=0)  # type: ignore[arg-type]
    whole = chat.invoke("Who are you?")
    streamed = "".join(str(chunk.content) for chunk in chat.stream("Who are you?"))
    called = chat.bind_tools([get_weather], tool_choice="get_weather").invoke("What is the weather in Rome?")
    # Its default cuts texts by OpenAI's own tokenizer, and sends ids that are another model's.
    embeddings = OpenAIEmbeddings(
        base_url=base_url,
        api_key="none",  # type: ignore[arg-type]
        model="minilm",
        check_embedding_ctx_length=False,
    )
    found = {
        "text": whole.content,
        "usage": (whole.usage_metadata or {}).get("total_tokens"),
        "streamed": streamed,
        "calls": [[call["name"], call["args"]] for call in called.tool_calls],
        "vectors": [len(vector) for vector in embeddings.embed_documents(["a cat", "a dog"])],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
