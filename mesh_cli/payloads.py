"""From the words of a command line to a payload, by the model's task. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from inference_mesh.json_payload import payload_from_json, task_name
from inference_mesh.v1 import payload_pb2
from mesh_cli.errors import UsageError

_TAKES_TEXT = (payload_pb2.TASK_GENERATE, payload_pb2.TASK_EMBED, payload_pb2.TASK_CLASSIFY)
_EXAMPLES = {
    payload_pb2.TASK_RERANK: '{"query": "…", "documents": ["…", "…"]}',
    payload_pb2.TASK_TENSORS: '{"inputs": [{"name": "…", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}',
    payload_pb2.TASK_JSON: "any JSON document that the service takes",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Sampling:
    """How a text is generated; None = the model's default."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """What was given, as keys of a payload."""
        fields = dataclasses.asdict(self)
        fields["stop"] = list(self.stop) or None
        return {name: value for name, value in fields.items() if value is not None}


def text_payload(
    task: payload_pb2.Task, text: str, sampling: Sampling, *, system: str | None = None
) -> payload_pb2.Payload:
    """The payload for a text: one user's message for a chat, else a text to embed or classify.

    Raises UsageError if the task takes no plain text, or none of the options that were given.
    """
    if task not in _TAKES_TEXT:
        example = _EXAMPLES.get(task, "{}")
        raise UsageError(
            f"a model of task {task_name(task)} takes no plain text; use --json, e.g. --json '{example}'"
        )
    if task != payload_pb2.TASK_GENERATE:
        _refuse_options(task, sampling, system)
        return payload_from_json(task, text)
    opening = [{"role": "system", "content": system}] if system else []
    return chat_payload([*opening, {"role": "user", "content": text}], sampling)


def continued_payload(
    task: payload_pb2.Task, text: str, sampling: Sampling, *, system: str | None = None
) -> payload_pb2.Payload:
    """The payload for a text that a generating model continues as it stands. Raises UsageError."""
    if system:
        raise UsageError("--system: not with --raw, which applies no chat template")
    if task != payload_pb2.TASK_GENERATE:
        raise UsageError(f"--raw is for models that generate; this one's task is {task_name(task)}")
    return payload_from_json(task, {"prompt": text, **sampling.document()})


def chat_payload(messages: Sequence[dict[str, str]], sampling: Sampling) -> payload_pb2.Payload:
    """The payload for a conversation."""
    return payload_from_json(payload_pb2.TASK_GENERATE, {"messages": list(messages), **sampling.document()})


def json_payload(
    task: payload_pb2.Task, text: str, sampling: Sampling, *, system: str | None = None
) -> payload_pb2.Payload:
    """The payload for a JSON text; sampling options are added to it. Raises UsageError, InvalidInputError."""
    if system:
        raise UsageError("--system: not with --json; write it as the first of the messages")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--json is not valid JSON: {error}") from None
    options = sampling.document()
    if options:
        if task != payload_pb2.TASK_GENERATE or not isinstance(document, dict):
            raise UsageError(f"{_flags(options)}: only for a generating model with a JSON object")
        document = {**document, **options}
    return payload_from_json(task, document)


def _refuse_options(task: payload_pb2.Task, sampling: Sampling, system: str | None) -> None:
    given = {**sampling.document(), **({"system": system} if system else {})}
    if given:
        raise UsageError(
            f"{_flags(given)}: only for models that generate; this one's task is {task_name(task)}"
        )


def _flags(options: dict[str, Any]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in options)
