"""What a load asks: payloads in the form of `POST /api/infer`, one for each call. Pure."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from inference_mesh import tensors
from inference_mesh.v1 import inference_pb2, payload_pb2
from mesh_cli.errors import UsageError

Payload: TypeAlias = dict[str, Any]

WORDS = (
    "river", "mountain", "window", "garden", "letter", "silver", "morning", "engine", "market", "forest",
    "bridge", "winter", "island", "kitchen", "pencil", "summer", "camera", "story", "paper", "music",
    "harbour", "station", "village", "doctor", "yellow", "carpet",
)  # fmt: skip
LARGEST_FREE_SIZE = 1
"""What a size of a tensor is that the model leaves open."""


@dataclasses.dataclass(frozen=True, slots=True)
class Texts:
    """How the texts of a load look. words: of each. is_same: every call sends the same one."""

    words: int
    is_same: bool
    seed: int = 0


def payloads(
    model: inference_pb2.Model, texts: Texts, max_tokens: int, given: Payload | None
) -> Iterator[Payload]:
    """Endless payloads for a model. given: the one that each call is to send, None = made here.

    Texts differ from their first word on, so that no call finds another's prefix in a cache.
    Raises UsageError if nothing can be made for the model's task.
    """
    if given is not None:
        return (copy.deepcopy(given) for _ in itertools.count())
    make = _MAKERS.get(model.task)
    if make is not None:
        return (make(text, max_tokens) for text in _texts(texts))
    if model.task == payload_pb2.TASK_TENSORS:
        inputs = [_zeros(spec) for spec in model.inputs]
        return ({"inputs": inputs} for _ in itertools.count())
    raise UsageError(f"give a payload by --json: none can be made for a model such as '{model.name}'")


def _texts(texts: Texts) -> Iterator[str]:
    chosen = random.Random(texts.seed)
    first = _text(chosen, texts.words)
    while True:
        yield first if texts.is_same else _text(chosen, texts.words)


def _text(chosen: random.Random, words: int) -> str:
    return " ".join(chosen.choice(WORDS) for _ in range(words))


def _chat(text: str, max_tokens: int) -> Payload:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": max_tokens, "temperature": 0}


_MAKERS: dict[payload_pb2.Task, Callable[[str, int], Payload]] = {
    payload_pb2.TASK_GENERATE: _chat,
    payload_pb2.TASK_EMBED: lambda text, _: {"text": text},
    payload_pb2.TASK_CLASSIFY: lambda text, _: {"text": text},
    payload_pb2.TASK_RERANK: lambda text, _: {"query": text, "documents": [text, text[::-1]]},
}


def _zeros(spec: payload_pb2.TensorSpec) -> Payload:
    shape = [LARGEST_FREE_SIZE if size < 0 else size for size in spec.shape]
    count = 1
    for size in shape:
        count *= size
    zero: object = "" if spec.datatype == "BYTES" else False if spec.datatype == "BOOL" else 0
    if spec.datatype not in tensors.DATATYPES:
        raise UsageError(f"give a payload by --json: input '{spec.name}' is of {spec.datatype}")
    return {"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": [zero] * count}
