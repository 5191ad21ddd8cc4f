"""POST /v1/chat/completions: its body as a call of ours, the results as its answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from inference_mesh.v1 import inference_pb2, payload_pb2
from rest_bridge.dialect_endpoint import Asked
from rest_bridge.fields import Fields
from rest_bridge.openai.chat_events import ChatEvents
from rest_bridge.openai.generation import refuse, set_count, set_format, set_length, set_sampling
from rest_bridge.openai.messages import chat_of
from rest_bridge.openai.objects import Json, chat_logprobs, finish_reason, tool_call, usage_of
from rest_bridge.openai.tools import tool_choice_of, tools_of

MOST_TOP_LOGPROBS = 20
LONGEST_NAME = 256

UNSUPPORTED: dict[str, object] = {
    "audio": None,
    "modalities": ["text"],
    "web_search_options": None,
    "functions": None,
    "function_call": "none",
}


def read_chat(fields: Fields, request_id: str, created_s: int) -> Asked:
    """What a body asks for. Raises InvalidFieldError and UnsupportedFieldError."""
    refuse(fields, UNSUPPORTED)
    generate = payload_pb2.Generate(
        chat=chat_of(fields), tools=tools_of(fields), tool_choice=tool_choice_of(fields)
    )
    set_sampling(generate, fields)
    set_count(generate, fields)
    set_length(generate, fields, "max_completion_tokens", "max_tokens")
    set_format(generate, fields.nested("response_format"))
    _set_logprobs(generate, fields)
    model = fields.required_text("model", longest=LONGEST_NAME)
    is_lone_call = "parallel_tool_calls" in fields and not fields.flag("parallel_tool_calls")
    most_calls = 1 if is_lone_call else None
    head: Json = {"id": f"chatcmpl-{request_id}", "created": created_s, "model": model}
    return Asked(
        model,
        [payload_pb2.Payload(generate=generate)],
        document=lambda responses: completion_of(responses[0], head, most_calls),
        events=_events(fields, head, most_calls),
    )


def completion_of(response: inference_pb2.InferResponse, head: Json, most_calls: int | None) -> Json:
    """The whole answer. most_calls: of one answer; None = all."""
    first = response.output.generate
    return {
        **head,
        "object": "chat.completion",
        "model": response.model,
        "choices": [_choice(generated, most_calls) for generated in (first, *first.others)],
        "usage": usage_of([response.usage]),
        "system_fingerprint": response.version or None,
    }


def _choice(generated: payload_pb2.Generated, most_calls: int | None) -> Json:
    calls: Sequence[payload_pb2.ToolCall] = generated.tool_calls[:most_calls]
    message: Json = {
        "role": "assistant",
        "content": None if calls and not generated.text else generated.text,
        "refusal": None,
    }
    if calls:
        message["tool_calls"] = [tool_call(call) for call in calls]
    return {
        "index": generated.index,
        "message": message,
        "logprobs": chat_logprobs(generated.logprobs),
        "finish_reason": finish_reason(generated),
    }


def _set_logprobs(generate: payload_pb2.Generate, fields: Fields) -> None:
    top = fields.integer("top_logprobs", 0, MOST_TOP_LOGPROBS)
    if fields.flag("logprobs"):
        generate.top_logprobs = top or 0
    elif top:
        raise fields.wrong("top_logprobs", "absent unless 'logprobs' is true")


def _events(fields: Fields, head: Json, most_calls: int | None) -> ChatEvents | None:
    options = fields.nested("stream_options")
    if not fields.flag("stream"):
        if options is not None:
            raise fields.wrong("stream_options", "absent unless 'stream' is true")
        return None
    return ChatEvents(
        head, most_calls=most_calls, tells_usage=options is not None and options.flag("include_usage")
    )
