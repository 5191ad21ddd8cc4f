"""The objects that Anthropic's answers are made of. Pure."""

from __future__ import annotations

import orjson

from inference_mesh.v1 import payload_pb2

Json = dict[str, object]

STOP_REASONS = {
    payload_pb2.FINISH_REASON_STOP: "end_turn",
    payload_pb2.FINISH_REASON_LENGTH: "max_tokens",
    payload_pb2.FINISH_REASON_TOOL_CALLS: "tool_use",
}


def stop_of(generated: payload_pb2.Generated) -> Json:
    """Why an answer ended, and at which of the caller's texts."""
    if generated.stop_text:
        return {"stop_reason": "stop_sequence", "stop_sequence": generated.stop_text}
    return {"stop_reason": STOP_REASONS.get(generated.finish_reason), "stop_sequence": None}


def usage_of(usage: payload_pb2.Usage) -> Json:
    """The tokens of a call; those of the prompt that were computed before count apart."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
    }


def tool_use(call: payload_pb2.ToolCall) -> Json:
    """A call of a function, with its arguments as an object."""
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": orjson.loads(call.arguments)}
