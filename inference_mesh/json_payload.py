"""Payloads and outputs as the JSON of `POST /api/infer` and of the workers' `POST /infer`.

Owns the JSON forms of every task. Does not own limits that depend on the model: the worker
checks those.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from inference_mesh import strict_json, tensors
from inference_mesh.errors import InternalError, InvalidInputError, UnsupportedError
from inference_mesh.v1 import payload_pb2

TASK_NAMES: dict[str, payload_pb2.Task] = {
    "generate": payload_pb2.TASK_GENERATE,
    "embed": payload_pb2.TASK_EMBED,
    "rerank": payload_pb2.TASK_RERANK,
    "classify": payload_pb2.TASK_CLASSIFY,
    "tensors": payload_pb2.TASK_TENSORS,
    "json": payload_pb2.TASK_JSON,
}

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
GENERATE_FIELDS = (*GENERATE_INPUTS, "max_tokens", "stop", "json_schema", "logit_bias", "delivered_tokens")
FINISH_REASONS = {payload_pb2.FINISH_REASON_STOP: "stop", payload_pb2.FINISH_REASON_LENGTH: "length"}
LENGTH_REASONS = {
    payload_pb2.LENGTH_REASON_MAX_TOKENS: "max_tokens",
    payload_pb2.LENGTH_REASON_CONTEXT: "context",
    payload_pb2.LENGTH_REASON_CLAMP: "clamp",
    payload_pb2.LENGTH_REASON_TOKEN_BUDGET: "token_budget",
}

Document = Mapping[str, Any]


def task_name(task: payload_pb2.Task) -> str:
    """The name of a task as JSON and YAML have it, such as "generate"."""
    return payload_pb2.Task.Name(task).removeprefix("TASK_").lower()


def payload_from_json(task: payload_pb2.Task, document: object) -> payload_pb2.Payload:
    """The payload for a model of this task.

    A bare text is a prompt or a text to embed or classify. Raises InvalidInputError naming
    the field, what is wrong and what is allowed.
    """
    if task == payload_pb2.TASK_JSON:
        return payload_pb2.Payload(json=strict_json.dumps(document))
    builder = _BUILDERS.get(task)
    if builder is None:
        raise UnsupportedError(f"a model of task {task_name(task)} takes no JSON payload")
    if isinstance(document, str) and task in _BARE_TEXT:
        document = {_BARE_TEXT[task]: document}
    if not isinstance(document, dict):
        raise InvalidInputError(f"payload: must be an object for task {task_name(task)}")
    try:
        return builder(document)
    except (OverflowError, ValueError, UnicodeEncodeError) as error:
        raise InvalidInputError(f"payload: {error}") from None


def output_to_json(output: payload_pb2.Output) -> Any:
    """The output as a JSON document; vectors are numpy arrays for `strict_json.dumps`.

    Raises InternalError if a service answered something else than JSON.
    """
    kind = output.WhichOneof("kind")
    if kind == "generate":
        return _generated(output.generate)
    if kind == "embed":
        values = np.frombuffer(output.embed.values, dtype="<f4")
        return {"embeddings": values.reshape(-1, max(1, output.embed.dimensions))}
    if kind == "rerank":
        return {"documents": [{"index": item.index, "score": item.score} for item in output.rerank.documents]}
    if kind == "classify":
        results = output.classify.results
        return {
            "results": [
                [{"label": one.label, "score": one.score} for one in result.labels] for result in results
            ]
        }
    if kind == "tensors":
        return {"outputs": [tensors.to_json(tensor) for tensor in output.tensors.tensors]}
    return _answered(output.json) if kind == "json" else None


def usage_to_json(usage: payload_pb2.Usage) -> dict[str, int]:
    """Token counts; `response_cached` (true) only where the whole answer was kept from an earlier call."""
    counts = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
    }
    return {**counts, "response_cached": True} if usage.response_cached else counts


def timing_to_json(timing: payload_pb2.Timing) -> dict[str, float]:
    """Seconds, rounded to microseconds."""
    seconds = {"queue_s": timing.queue_s, "compute_s": timing.compute_s}
    if timing.first_token_s:
        seconds["first_token_s"] = timing.first_token_s
    return {name: round(value, 6) for name, value in seconds.items()}


def _answered(data: bytes) -> Any:
    """The JSON that a service answered. What is none is no fault of the caller's."""
    try:
        return strict_json.loads(data)
    except InvalidInputError as error:
        raise InternalError("the service's answer is not valid JSON") from error


def _generated(generated: payload_pb2.Generated) -> dict[str, object]:
    answer: dict[str, object] = {"text": generated.text}
    if generated.finish_reason:
        answer["finish_reason"] = FINISH_REASONS[generated.finish_reason]
    if generated.length_reason in LENGTH_REASONS:
        answer["length_reason"] = LENGTH_REASONS[generated.length_reason]
    return answer


def _generate(document: Document) -> payload_pb2.Payload:
    _refuse_unknown(document, (*GENERATE_FIELDS, *SAMPLING_FIELDS))
    given = [name for name in GENERATE_INPUTS if name in document]
    if len(given) != 1:
        raise InvalidInputError("payload: exactly one of prompt, messages and tokens is required")
    message = payload_pb2.Generate(
        max_tokens=_value(document, "max_tokens", int, 0),
        stop=_texts(document, "stop"),
        json_schema=_schema(document.get("json_schema")),
        delivered_tokens=_numbers(document, "delivered_tokens"),
    )
    if given == ["prompt"]:
        message.prompt = _value(document, "prompt", str, "")
    elif given == ["messages"]:
        message.chat.messages.extend(_messages(document["messages"]))
        message.chat.SetInParent()
    else:
        message.tokens.ids.extend(_numbers(document, "tokens"))
        message.tokens.SetInParent()
    for name, kind in SAMPLING_FIELDS.items():
        if document.get(name) is not None:
            setattr(message.sampling, name, _value(document, name, kind, 0))
    for token, bias in _logit_bias(document):
        message.sampling.logit_bias[token] = bias
    return payload_pb2.Payload(generate=message)


def _embed(document: Document) -> payload_pb2.Payload:
    _refuse_unknown(document, ("text", "texts", "dimensions", "truncate"))
    message = payload_pb2.Embed(
        texts=_one_or_many(document, "text", "texts"),
        dimensions=_value(document, "dimensions", int, 0),
        truncate=_value(document, "truncate", bool, False),
    )
    return payload_pb2.Payload(embed=message)


def _rerank(document: Document) -> payload_pb2.Payload:
    _refuse_unknown(document, ("query", "documents", "top_n"))
    message = payload_pb2.Rerank(
        query=_value(document, "query", str, ""),
        documents=_texts(document, "documents"),
        top_n=_value(document, "top_n", int, 0),
    )
    return payload_pb2.Payload(rerank=message)


def _classify(document: Document) -> payload_pb2.Payload:
    _refuse_unknown(document, ("text", "texts", "top_k"))
    message = payload_pb2.Classify(
        texts=_one_or_many(document, "text", "texts"), top_k=_value(document, "top_k", int, 0)
    )
    return payload_pb2.Payload(classify=message)


def _tensors(document: Document) -> payload_pb2.Payload:
    _refuse_unknown(document, ("inputs", "outputs"))
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise InvalidInputError("payload: 'inputs' must be a list of tensors that is not empty")
    message = payload_pb2.Tensors(
        tensors=[tensors.from_json(entry) for entry in inputs], outputs=_texts(document, "outputs")
    )
    return payload_pb2.Payload(tensors=message)


_BUILDERS: dict[payload_pb2.Task, Callable[[Document], payload_pb2.Payload]] = {
    payload_pb2.TASK_GENERATE: _generate,
    payload_pb2.TASK_EMBED: _embed,
    payload_pb2.TASK_RERANK: _rerank,
    payload_pb2.TASK_CLASSIFY: _classify,
    payload_pb2.TASK_TENSORS: _tensors,
}
_BARE_TEXT = {
    payload_pb2.TASK_GENERATE: "prompt",
    payload_pb2.TASK_EMBED: "text",
    payload_pb2.TASK_CLASSIFY: "text",
}
_KIND_NAMES: dict[type, str] = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}


def _refuse_unknown(document: Document, allowed: tuple[str, ...]) -> None:
    for key in document:
        if key not in allowed:
            raise InvalidInputError(f"payload: unknown key '{key[:64]}'; allowed are {', '.join(allowed)}")


def _value(document: Document, name: str, kind: type, default: Any) -> Any:
    value = document.get(name)
    if value is None:
        return default
    allowed = (int, float) if kind is float else (kind,)
    if type(value) not in allowed:
        raise InvalidInputError(f"payload: '{name}' must be {_KIND_NAMES[kind]}")
    return value


def _texts(document: Document, name: str) -> list[str]:
    value = document.get(name)
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InvalidInputError(f"payload: '{name}' must be a list of texts")
    return value


def _one_or_many(document: Document, one: str, many: str) -> list[str]:
    if (one in document) == (many in document):
        raise InvalidInputError(f"payload: exactly one of {one} and {many} is required")
    return [_value(document, one, str, "")] if one in document else _texts(document, many)


def _numbers(document: Document, name: str) -> list[int]:
    value = document.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(type(number) is int for number in value):
        raise InvalidInputError(f"payload: '{name}' must be a list of integers")
    return value


def _messages(value: object) -> list[payload_pb2.ChatMessage]:
    if not isinstance(value, list):
        raise InvalidInputError("payload: 'messages' must be a list of {role, content}")
    return [_message(position, entry) for position, entry in enumerate(value)]


def _message(position: int, entry: object) -> payload_pb2.ChatMessage:
    where = f"payload: messages[{position}]"
    if not isinstance(entry, dict) or set(entry) != {"role", "content"}:
        raise InvalidInputError(f"{where} must be an object with role and content")
    if not isinstance(entry["role"], str) or not isinstance(entry["content"], str):
        raise InvalidInputError(f"{where}: role and content must be texts")
    return payload_pb2.ChatMessage(role=entry["role"], content=entry["content"])


def _schema(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return json.dumps(value)
    raise InvalidInputError("payload: 'json_schema' must be an object")


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
