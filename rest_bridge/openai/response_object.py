"""The object of a response and the items in it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from inference_mesh.v1 import payload_pb2
from rest_bridge.fields import Fields
from rest_bridge.openai.objects import Json, chat_logprobs

COMPLETED, INCOMPLETE, IN_PROGRESS, FAILED = "completed", "incomplete", "in_progress", "failed"


def response_head(fields: Fields, request_id: str, created_s: int, model: str) -> Json:
    """What every form of a response repeats of its request."""
    return {
        "id": f"resp_{request_id}",
        "object": "response",
        "created_at": created_s,
        "model": model,
        "error": None,
        "incomplete_details": None,
        "instructions": fields["instructions"],
        "max_output_tokens": fields["max_output_tokens"],
        "metadata": fields["metadata"] or {},
        "parallel_tool_calls": fields["parallel_tool_calls"] is not False,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": fields["temperature"],
        "text": fields["text"] or {"format": {"type": "text"}},
        "tool_choice": fields["tool_choice"] or "auto",
        "tools": fields["tools"] or [],
        "top_p": fields["top_p"],
        "truncation": "disabled",
        "user": fields["user"],
    }


def ended(head: Json, generated: payload_pb2.Generated, output: list[Json], usage: payload_pb2.Usage) -> Json:
    """A response that came to its end, whole or cut by a limit."""
    is_cut = generated.finish_reason == payload_pb2.FINISH_REASON_LENGTH
    return {
        **head,
        "status": INCOMPLETE if is_cut else COMPLETED,
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "output": output,
        "usage": {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        },
    }


def output_of(generated: payload_pb2.Generated, request_id: str, most_calls: int | None) -> list[Json]:
    """The items of an answer: its text, then its calls. most_calls: None = all."""
    items: list[Json] = []
    if generated.text or not generated.tool_calls:
        status = INCOMPLETE if generated.finish_reason == payload_pb2.FINISH_REASON_LENGTH else COMPLETED
        part = text_part(generated.text, generated.logprobs)
        items.append(message_item(request_id, [part], status))
    return items + [call_item(call, COMPLETED) for call in generated.tool_calls[:most_calls]]


def message_item(request_id: str, parts: list[Json], status: str) -> Json:
    """A message of the assistant."""
    return {
        "id": f"msg_{request_id}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": parts,
    }


def text_part(text: str, logprobs: Sequence[payload_pb2.TokenLogprob] = ()) -> Json:
    """A text of a message."""
    told = chat_logprobs(logprobs)
    return {
        "type": "output_text",
        "text": text,
        "annotations": [],
        "logprobs": told["content"] if told else [],
    }


def call_item(call: payload_pb2.ToolCall, status: str, *, arguments: str | None = None) -> Json:
    """A call of a function. arguments: so far; None = all of them."""
    return {
        "id": f"fc_{call.id}",
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments if arguments is None else arguments,
        "status": status,
    }
