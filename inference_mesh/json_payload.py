"""Payloads and outputs as the JSON of `POST /api/infer` and of the workers' `POST /infer`.

Owns the JSON forms of every task but generate, which `json_generate` has. Does not own limits that
depend on the model: the worker checks those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from inference_mesh import strict_json, tensors
from inference_mesh.errors import InternalError, InvalidInputError, UnsupportedError
from inference_mesh.json_fields import Document, refuse_unknown, texts_of, value_of
from inference_mesh.json_generate import generate_from_json, generated_to_json
from inference_mesh.v1 import payload_pb2

TASK_NAMES: dict[str, payload_pb2.Task] = {
    "generate": payload_pb2.TASK_GENERATE,
    "embed": payload_pb2.TASK_EMBED,
    "rerank": payload_pb2.TASK_RERANK,
    "classify": payload_pb2.TASK_CLASSIFY,
    "tensors": payload_pb2.TASK_TENSORS,
    "json": payload_pb2.TASK_JSON,
}


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
        return generated_to_json(output.generate)
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


def _embed(document: Document) -> payload_pb2.Payload:
    refuse_unknown(document, ("text", "texts", "dimensions", "truncate", "prompt_name"))
    message = payload_pb2.Embed(
        texts=_one_or_many(document, "text", "texts"),
        dimensions=value_of(document, "dimensions", int, 0),
        truncate=value_of(document, "truncate", bool, False),
        prompt_name=value_of(document, "prompt_name", str, ""),
    )
    return payload_pb2.Payload(embed=message)


def _rerank(document: Document) -> payload_pb2.Payload:
    refuse_unknown(document, ("query", "documents", "top_n", "truncate"))
    message = payload_pb2.Rerank(
        query=value_of(document, "query", str, ""),
        documents=texts_of(document, "documents"),
        top_n=value_of(document, "top_n", int, 0),
        truncate=value_of(document, "truncate", bool, False),
    )
    return payload_pb2.Payload(rerank=message)


def _classify(document: Document) -> payload_pb2.Payload:
    refuse_unknown(document, ("text", "texts", "top_k", "truncate"))
    message = payload_pb2.Classify(
        texts=_one_or_many(document, "text", "texts"),
        top_k=value_of(document, "top_k", int, 0),
        truncate=value_of(document, "truncate", bool, False),
    )
    return payload_pb2.Payload(classify=message)


def _tensors(document: Document) -> payload_pb2.Payload:
    refuse_unknown(document, ("inputs", "outputs"))
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise InvalidInputError("payload: 'inputs' must be a list of tensors that is not empty")
    message = payload_pb2.Tensors(
        tensors=[tensors.from_json(entry) for entry in inputs], outputs=texts_of(document, "outputs")
    )
    return payload_pb2.Payload(tensors=message)


_BUILDERS: dict[payload_pb2.Task, Callable[[Document], payload_pb2.Payload]] = {
    payload_pb2.TASK_GENERATE: generate_from_json,
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


def _one_or_many(document: Document, one: str, many: str) -> list[str]:
    if (one in document) == (many in document):
        raise InvalidInputError(f"payload: exactly one of {one} and {many} is required")
    return [value_of(document, one, str, "")] if one in document else texts_of(document, many)
