"""The objects that OpenAI's answers are made of. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inference_mesh.v1 import payload_pb2

Json = dict[str, object]

FINISH_REASONS = {
    payload_pb2.FINISH_REASON_STOP: "stop",
    payload_pb2.FINISH_REASON_LENGTH: "length",
    payload_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
}


def usage_of(usages: Iterable[payload_pb2.Usage]) -> Json:
    """The tokens of all calls together."""
    found = list(usages)
    prompt = sum(usage.prompt_tokens for usage in found)
    completion = sum(usage.completion_tokens for usage in found)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(usage.cached_tokens for usage in found)},
    }


def tool_call(call: payload_pb2.ToolCall) -> Json:
    """A call of a function."""
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def chat_logprobs(tokens: Sequence[payload_pb2.TokenLogprob]) -> Json | None:
    """How probable the tokens were, in the form of chat; None if it was not asked."""
    if not tokens:
        return None
    content = [{**_token(token), "top_logprobs": [_token(top) for top in token.top]} for token in tokens]
    return {"content": content, "refusal": None}


def finish_reason(generated: payload_pb2.Generated) -> str | None:
    """Why the answer ended; None while it goes on."""
    return FINISH_REASONS.get(generated.finish_reason)


def token_text(token: payload_pb2.TokenLogprob) -> str:
    """The text of a token; a part of a character shows as the replacement character."""
    return token.text.decode("utf-8", errors="replace")


def _token(token: payload_pb2.TokenLogprob) -> Json:
    return {"token": token_text(token), "logprob": token.logprob, "bytes": list(token.text)}
