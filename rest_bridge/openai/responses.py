"""POST /v1/responses, without a memory: its body as a call of ours, the result as its answer. Pure.

Nothing is kept between two calls, so what refers to an earlier response is refused by name.
"""

from __future__ import annotations

from inference_mesh.v1 import payload_pb2
from rest_bridge.dialect_endpoint import Asked
from rest_bridge.fields import Fields
from rest_bridge.openai.chat import LONGEST_NAME, MOST_TOP_LOGPROBS
from rest_bridge.openai.generation import refuse, set_format, set_length, set_sampling
from rest_bridge.openai.response_events import ResponseEvents
from rest_bridge.openai.response_input import chat_of_input
from rest_bridge.openai.response_object import ended, output_of, response_head
from rest_bridge.openai.tools import tool_choice_of, tools_of

UNSUPPORTED: dict[str, object] = {
    "previous_response_id": None,
    "conversation": None,
    "prompt": None,
    "background": False,
    "truncation": "disabled",
    "max_tool_calls": None,
}
LOGPROBS = "message.output_text.logprobs"
"""What `include` says to get log probabilities."""


def read_response(fields: Fields, request_id: str, created_s: int) -> Asked:
    """What a body asks for. Raises InvalidFieldError and UnsupportedFieldError."""
    refuse(fields, UNSUPPORTED)
    generate = payload_pb2.Generate(
        chat=chat_of_input(fields), tools=tools_of(fields), tool_choice=tool_choice_of(fields)
    )
    set_sampling(generate, fields)
    set_length(generate, fields, "max_output_tokens")
    text = fields.nested("text")
    set_format(generate, text.nested("format") if text else None)
    top = fields.integer("top_logprobs", 0, MOST_TOP_LOGPROBS)
    if top or LOGPROBS in fields.items("include"):
        generate.top_logprobs = top or 0
    model = fields.required_text("model", longest=LONGEST_NAME)
    is_lone_call = "parallel_tool_calls" in fields and not fields.flag("parallel_tool_calls")
    most_calls = 1 if is_lone_call else None
    head = response_head(fields, request_id, created_s, model)
    return Asked(
        model,
        [payload_pb2.Payload(generate=generate)],
        document=lambda responses: ended(
            {**head, "model": responses[0].model},
            responses[0].output.generate,
            output_of(responses[0].output.generate, request_id, most_calls),
            responses[0].usage,
        ),
        events=ResponseEvents(head, request_id, most_calls) if fields.flag("stream") else None,
    )
