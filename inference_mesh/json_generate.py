"""Text generation as JSON: prompts, conversations and tools in, texts and calls out.

Owns the JSON forms of that task. Tools, calls and the choice of them may have OpenAI's form as
well. Does not own limits that depend on the model: the worker checks those.
"""

from __future__ import annotations

from inference_mesh.errors import InvalidInputError
from inference_mesh.json_fields import (
    Document,
    json_text_of,
    numbers_of,
    objects_of,
    refuse_unknown,
    texts_of,
    value_of,
)
from inference_mesh.v1 import payload_pb2

SAMPLING_FIELDS: dict[str, type] = {
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repetition_penalty": float,
    "frequency_penalty": float,
    "presence_penalty": float,
    "seed": int,
}
GENERATE_INPUTS = ("prompt", "messages", "tokens")
GENERATE_FIELDS = (
    *GENERATE_INPUTS,
    "max_tokens",
    "stop",
    "json_schema",
    "grammar",
    "n",
    "top_logprobs",
    "tools",
    "tool_choice",
    "logit_bias",
    "delivered_tokens",
)
FINISH_REASONS = {
    payload_pb2.FINISH_REASON_STOP: "stop",
    payload_pb2.FINISH_REASON_LENGTH: "length",
    payload_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
}
LENGTH_REASONS = {
    payload_pb2.LENGTH_REASON_MAX_TOKENS: "max_tokens",
    payload_pb2.LENGTH_REASON_CONTEXT: "context",
    payload_pb2.LENGTH_REASON_CLAMP: "clamp",
    payload_pb2.LENGTH_REASON_TOKEN_BUDGET: "token_budget",
}
TOOL_CHOICES = {
    "auto": payload_pb2.TOOL_CHOICE_MODE_AUTO,
    "none": payload_pb2.TOOL_CHOICE_MODE_NONE,
    "required": payload_pb2.TOOL_CHOICE_MODE_REQUIRED,
}


def generate_from_json(document: Document) -> payload_pb2.Payload:
    """The payload of a document. Raises InvalidInputError naming the field."""
    refuse_unknown(document, (*GENERATE_FIELDS, *SAMPLING_FIELDS))
    message = payload_pb2.Generate(
        max_tokens=value_of(document, "max_tokens", int, 0),
        stop=texts_of(document, "stop"),
        json_schema=json_text_of(document, "json_schema"),
        grammar=value_of(document, "grammar", str, ""),
        n=value_of(document, "n", int, 0),
        tools=[
            _tool(tool, f"payload: tools[{position}]")
            for position, tool in enumerate(objects_of(document, "tools", "{name, description, parameters}"))
        ],
        delivered_tokens=numbers_of(document, "delivered_tokens"),
    )
    _set_input(message, document)
    if document.get("top_logprobs") is not None:
        message.top_logprobs = value_of(document, "top_logprobs", int, 0)
    if document.get("tool_choice") is not None:
        message.tool_choice.CopyFrom(_tool_choice(document["tool_choice"]))
    for name, kind in SAMPLING_FIELDS.items():
        if document.get(name) is not None:
            setattr(message.sampling, name, value_of(document, name, kind, 0))
    for token, bias in _logit_bias(document):
        message.sampling.logit_bias[token] = bias
    return payload_pb2.Payload(generate=message)


def generated_to_json(generated: payload_pb2.Generated) -> dict[str, object]:
    """An answer, or a piece of one; what is empty is left out, but for the text."""
    answer: dict[str, object] = {"index": generated.index} if generated.index else {}
    answer["text"] = generated.text
    if generated.tool_calls:
        answer["tool_calls"] = [
            {"id": call.id, "name": call.name, "arguments": call.arguments} for call in generated.tool_calls
        ]
    if generated.logprobs:
        answer["logprobs"] = [
            {**_logprob(one), "top": list(map(_logprob, one.top))} for one in generated.logprobs
        ]
    if generated.finish_reason:
        answer["finish_reason"] = FINISH_REASONS[generated.finish_reason]
    if generated.length_reason in LENGTH_REASONS:
        answer["length_reason"] = LENGTH_REASONS[generated.length_reason]
    if generated.stop_text:
        answer["stop_text"] = generated.stop_text
    if generated.others:
        answer["others"] = [generated_to_json(other) for other in generated.others]
    return answer


def _logprob(told: payload_pb2.TokenLogprob) -> dict[str, object]:
    """A token; its text is readable, and only that: a part of a character is a replacement sign."""
    return {
        "token": told.token,
        "text": told.text.decode("utf-8", errors="replace"),
        "logprob": round(told.logprob, 6),
    }


def _set_input(message: payload_pb2.Generate, document: Document) -> None:
    given = [name for name in GENERATE_INPUTS if name in document]
    if len(given) != 1:
        raise InvalidInputError("payload: exactly one of prompt, messages and tokens is required")
    if given == ["prompt"]:
        message.prompt = value_of(document, "prompt", str, "")
    elif given == ["messages"]:
        message.chat.messages.extend(_messages(document["messages"]))
        message.chat.SetInParent()
    else:
        message.tokens.ids.extend(numbers_of(document, "tokens"))
        message.tokens.SetInParent()


def _messages(value: object) -> list[payload_pb2.ChatMessage]:
    if not isinstance(value, list):
        raise InvalidInputError("payload: 'messages' must be a list of {role, content}")
    return [_message(entry, f"payload: messages[{position}]") for position, entry in enumerate(value)]


def _message(entry: object, where: str) -> payload_pb2.ChatMessage:
    if not isinstance(entry, dict) or "role" not in entry:
        raise InvalidInputError(f"{where} must be an object with role and content")
    refuse_unknown(entry, ("role", "content", "tool_calls", "tool_call_id"), where)
    calls = objects_of(entry, "tool_calls", "{id, name, arguments}", where)
    if "content" not in entry and not calls:
        raise InvalidInputError(f"{where} must be an object with role and content")
    if not isinstance(entry["role"], str) or not isinstance(entry.get("content") or "", str):
        raise InvalidInputError(f"{where}: role and content must be texts")
    if entry.get("content") is None and not calls:
        raise InvalidInputError(f"{where}: role and content must be texts")
    return payload_pb2.ChatMessage(
        role=entry["role"],
        content=entry.get("content") or "",
        tool_calls=[_tool_call(call, f"{where}.tool_calls[{at}]") for at, call in enumerate(calls)],
        tool_call_id=value_of(entry, "tool_call_id", str, "", where),
    )


def _tool(entry: Document, where: str) -> payload_pb2.Tool:
    function = _function_of(entry, ("name", "description", "parameters"), where)
    return payload_pb2.Tool(
        name=value_of(function, "name", str, "", where),
        description=value_of(function, "description", str, "", where),
        parameters=json_text_of(function, "parameters", where),
    )


def _tool_call(entry: Document, where: str) -> payload_pb2.ToolCall:
    function = _function_of(entry, ("id", "name", "arguments"), where)
    return payload_pb2.ToolCall(
        id=value_of(entry, "id", str, "", where),
        name=value_of(function, "name", str, "", where),
        arguments=json_text_of(function, "arguments", where),
    )


def _tool_choice(value: object) -> payload_pb2.ToolChoice:
    if isinstance(value, str) and value in TOOL_CHOICES:
        return payload_pb2.ToolChoice(mode=TOOL_CHOICES[value])
    if not isinstance(value, dict):
        raise InvalidInputError("payload: 'tool_choice' must be auto, none, required or {name}")
    function = _function_of(value, ("name",), "payload: tool_choice")
    name = value_of(function, "name", str, "", "payload: tool_choice")
    if not name:
        raise InvalidInputError("payload: 'tool_choice' must be auto, none, required or {name}")
    return payload_pb2.ToolChoice(mode=TOOL_CHOICES["required"], name=name)


def _function_of(entry: Document, allowed: tuple[str, ...], where: str) -> Document:
    """The function of an entry, which in OpenAI's form stands within it."""
    function = entry.get("function")
    if function is None:
        refuse_unknown(entry, (*allowed, "type"), where)
        return entry
    refuse_unknown(entry, ("type", "id", "function"), where)
    if not isinstance(function, dict) or entry.get("type", "function") != "function":
        raise InvalidInputError(f"{where}: must be {{type: function, function: {{{', '.join(allowed)}}}}}")
    refuse_unknown(function, allowed, where)
    return function


def _logit_bias(document: Document) -> list[tuple[int, float]]:
    value = document.get("logit_bias")
    if value is None:
        return []
    if not isinstance(value, dict):
        raise InvalidInputError("payload: 'logit_bias' must be an object of token id to number")
    pairs = []
    for token, bias in value.items():
        if not token.isdecimal() or type(bias) not in (int, float):
            raise InvalidInputError("payload: 'logit_bias' must be an object of token id to number")
        pairs.append((int(token), float(bias)))
    return pairs
