"""POST /v1/messages: its body as a call of ours, the result as its answer. Pure."""

from __future__ import annotations

from inference_mesh.v1 import inference_pb2, payload_pb2
from rest_bridge.anthropic.conversation import chat_of, tool_choice_of, tools_of
from rest_bridge.anthropic.message_events import MessageEvents
from rest_bridge.anthropic.objects import Json, stop_of, tool_use, usage_of
from rest_bridge.dialect_endpoint import Asked
from rest_bridge.fields import Fields

LARGEST_TOKENS = 2**31 - 1
LONGEST_NAME = 256
MOST_STOP_TEXTS = 16


def read_message(fields: Fields, request_id: str) -> Asked:
    """What a body asks for. Raises InvalidFieldError and UnsupportedFieldError."""
    _refuse_thinking(fields)
    max_tokens = fields.integer("max_tokens", 1, LARGEST_TOKENS)
    if max_tokens is None:
        raise fields.wrong("max_tokens", f"an integer from 1 to {LARGEST_TOKENS}")
    generate = payload_pb2.Generate(
        chat=chat_of(fields),
        max_tokens=max_tokens,
        tools=tools_of(fields),
        tool_choice=tool_choice_of(fields),
    )
    _set_sampling(generate, fields)
    model = fields.required_text("model", longest=LONGEST_NAME)
    most_calls = _most_calls(fields)
    head: Json = {"id": f"msg_{request_id}", "type": "message", "role": "assistant", "model": model}
    return Asked(
        model,
        [payload_pb2.Payload(generate=generate)],
        document=lambda responses: _message(responses[0], head, most_calls),
        events=MessageEvents(head, most_calls) if fields.flag("stream") else None,
    )


def _refuse_thinking(fields: Fields) -> None:
    thinking = fields.nested("thinking")
    if thinking is not None and thinking.choice("type", ("enabled", "disabled", "adaptive"), "") == "enabled":
        raise thinking.unsupported("type", "'enabled' is not supported")


def _set_sampling(generate: payload_pb2.Generate, fields: Fields) -> None:
    temperature, top_p = fields.number("temperature", 0, 1), fields.number("top_p", 0, 1)
    top_k = fields.integer("top_k", 0, LARGEST_TOKENS)
    if temperature is not None:
        generate.sampling.temperature = temperature
    if top_p == 0:
        generate.sampling.top_k = 1
    elif top_p is not None:
        generate.sampling.top_p = top_p
    if top_k is not None:
        generate.sampling.top_k = top_k
    stop = fields.items("stop_sequences", most=MOST_STOP_TEXTS)
    if not all(isinstance(text, str) and text for text in stop):
        raise fields.wrong("stop_sequences", "a list of texts, none of them empty")
    generate.stop.extend(stop)


def _most_calls(fields: Fields) -> int | None:
    choice = fields.nested("tool_choice")
    return 1 if choice is not None and choice.flag("disable_parallel_tool_use") else None


def _message(response: inference_pb2.InferResponse, head: Json, most_calls: int | None) -> Json:
    generated = response.output.generate
    content: list[Json] = [{"type": "text", "text": generated.text}] if generated.text else []
    content += [tool_use(call) for call in generated.tool_calls[:most_calls]]
    return {
        **head,
        "model": response.model,
        "content": content,
        **stop_of(generated),
        "usage": usage_of(response.usage),
    }
