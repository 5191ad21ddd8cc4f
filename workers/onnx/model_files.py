"""The files of a model: where they are, and what model.json says.

Owns the folder's layout and the schema of model.json. Does not look into model.onnx.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import pydantic

from inference_mesh.errors import ModelNotReadyError
from inference_mesh.v1 import payload_pb2

MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
DESCRIPTION_FILE = "model.json"

TaskName = Literal["embed", "rerank", "classify", "tensors"]
Pooling = Literal["mean", "cls", "in-graph"]
Activation = Literal["softmax", "sigmoid"]

TASKS: dict[str, payload_pb2.Task] = {
    "embed": payload_pb2.TASK_EMBED,
    "rerank": payload_pb2.TASK_RERANK,
    "classify": payload_pb2.TASK_CLASSIFY,
    "tensors": payload_pb2.TASK_TENSORS,
}


class Description(pydantic.BaseModel):
    """model.json: what cannot be seen in the graph. Every key is optional; others are ignored.

    task: what the model does. output: the output that the task reads. max_tokens: longest
    text. pooling, normalise: how token vectors become one vector of length 1. labels,
    activation: names of the classes, and how logits become probabilities. batching: whether
    tensor requests may be computed together (found out at the start if absent).
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore", strict=True)

    task: TaskName | None = None
    output: str | None = None
    max_tokens: int | None = pydantic.Field(default=None, ge=1, le=1_000_000)
    pooling: Pooling | None = None
    normalise: bool | None = None
    labels: list[str] = []
    activation: Activation = "softmax"
    batching: bool | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model's graph and tokenizer are, and its description."""

    graph: Path
    tokenizer: Path | None
    description: Description


def locate(path: Path) -> ModelFiles:
    """The files of the model at a folder or .onnx file. Raises ModelNotReadyError."""
    folder, graph = (path, path / MODEL_FILE) if path.is_dir() else (path.parent, path)
    if graph.suffix != ".onnx":
        raise ModelNotReadyError(f"'{path.name}' is neither an .onnx file nor a folder with {MODEL_FILE}")
    if not graph.is_file():
        raise ModelNotReadyError(f"there is no file '{graph.name}' at the path of the model")
    tokenizer = folder / TOKENIZER_FILE
    return ModelFiles(
        graph=graph,
        tokenizer=tokenizer if tokenizer.is_file() else None,
        description=_read_description(folder / DESCRIPTION_FILE),
    )


def _read_description(path: Path) -> Description:
    if not path.is_file():
        return Description()
    try:
        return Description.model_validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ModelNotReadyError(f"{DESCRIPTION_FILE}: {place}: {first['msg']}") from error
