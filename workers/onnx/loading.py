"""From files to a model that is loaded, checked and warm.

Owns the order of loading and which tasks the model can do. Blocks; runs in a thread.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from inference_mesh import telemetry
from inference_mesh.errors import MeshError, ModelNotReadyError
from inference_mesh.v1 import inference_pb2, payload_pb2
from workers.onnx.classify import ClassifyTask
from workers.onnx.embed import EmbedTask
from workers.onnx.model_check import check_model
from workers.onnx.model_files import TASKS, ModelFiles, locate
from workers.onnx.prepared_graph import GraphStore
from workers.onnx.rerank import RerankTask
from workers.onnx.rows import Task
from workers.onnx.sessions import Session, open_session
from workers.onnx.settings import OnnxSettings
from workers.onnx.signature import Signature
from workers.onnx.tensors import TensorsTask, treats_rows_alone
from workers.onnx.text_rows import TextRows, looks_like_text, text_row
from workers.onnx.tokenizer import Tokenizer
from workers.text_tasks.prompts import read_prompts

WARM_UP_TEXT = "warm-up"

SINGLES_PER_SESSION = 4
"""Requests of a model without batches that each session may have, at work and next: the gateway
sends more only when one was answered, and an idle session would wait for the way back and forth."""


@dataclasses.dataclass(frozen=True, slots=True)
class LoadedModel:
    """tasks: by the name of the payload's kind; tensors is always among them.

    is_unpadded: padding was removed inside the graph.
    """

    model: inference_pb2.Model
    sessions: Sequence[Session]
    tasks: Mapping[str, Task]
    is_unpadded: bool = False


def load_model(settings: OnnxSettings) -> LoadedModel:
    """The model of the settings, run once. Raises ModelNotReadyError with the reason."""
    try:
        return _load(settings)
    except MeshError:
        raise
    except Exception as error:  # a damaged file fails wherever its damage is first read
        telemetry.get_logger(__name__).exception("a model failed to load")
        raise ModelNotReadyError(f"'{settings.path.name}' cannot be loaded: its files are damaged") from error


def _load(settings: OnnxSettings) -> LoadedModel:
    files = locate(settings.path)
    check_model(files.graph)
    sessions, is_unpadded = _prepared_sessions(files, settings)
    session = sessions[0]
    signature = session.signature()
    model = inference_pb2.Model(
        name=settings.name,
        version=settings.version,
        task=_choose_task(files, signature, settings.task),
        ready=True,
        runtime="onnxruntime",
    )
    signature.describe(model)
    tensors_task = _tensors_task(session, signature, files)
    tasks: dict[str, Task] = {"tensors": tensors_task}
    model.slots = _slots(
        settings, is_batched=model.task != payload_pb2.TASK_TENSORS or tensors_task.is_batched
    )
    if model.task != payload_pb2.TASK_TENSORS:
        kind_name = payload_pb2.Task.Name(model.task).removeprefix("TASK_").lower()
        tasks[kind_name] = _text_task(session, signature, files, model, settings.max_tokens)
    return LoadedModel(model, sessions, tasks, is_unpadded)


def _prepared_sessions(files: ModelFiles, settings: OnnxSettings) -> tuple[list[Session], bool]:
    """The sessions, and whether padding was removed inside their graph."""
    task = settings.task or TASKS.get(files.description.task or "")
    is_for_texts = files.tokenizer is not None and task != payload_pb2.TASK_TENSORS
    if not settings.removes_padding or not is_for_texts:
        return _open_sessions(files, settings), False
    store = GraphStore(settings.cache)
    prepared = store.prepared(files.graph, settings.provider)
    if not prepared.is_unpadded:
        return _open_sessions(files, settings), False
    try:
        return _open_sessions(files, settings, prepared.source), True
    except ModelNotReadyError:
        # Deleted by another worker in this moment, or damaged in a way that its size does not tell.
        store.discard(prepared)
        return _open_sessions(files, settings), False


def _open_sessions(
    files: ModelFiles, settings: OnnxSettings, source: Path | bytes | None = None
) -> list[Session]:
    """As many as may run at a time.

    A session of one thread has no thread pool: it runs on its caller's thread, so that one
    serves all, as fast as several (measured) and with its weights in memory once.
    """
    if settings.threads_per_session == 1:
        return [open_session(files.graph, settings, source)] * settings.sessions
    return [open_session(files.graph, settings, source) for _ in range(settings.sessions)]


def _choose_task(files: ModelFiles, signature: Signature, asked: payload_pb2.Task) -> payload_pb2.Task:
    if asked != payload_pb2.TASK_UNSPECIFIED:
        task = asked
    elif files.description.task is not None:
        task = TASKS[files.description.task]
    elif files.tokenizer is not None and looks_like_text(signature):
        task = payload_pb2.TASK_EMBED
    else:
        task = payload_pb2.TASK_TENSORS
    if task not in TASKS.values():
        raise ModelNotReadyError(
            f"task {payload_pb2.Task.Name(task)} is not one of ONNX Runtime's; allowed are {', '.join(TASKS)}"
        )
    return task


def _tensors_task(session: Session, signature: Signature, files: ModelFiles) -> TensorsTask:
    is_batched = files.description.batching
    if is_batched is None:
        is_batched = treats_rows_alone(signature, session.run)
    is_batched = is_batched and signature.is_batched
    telemetry.get_logger(__name__).info(
        "tensor batching decided", file=files.graph.name, is_batched=is_batched
    )
    return TensorsTask(signature, is_batched=is_batched)


def _slots(settings: OnnxSettings, *, is_batched: bool) -> int:
    """Requests of one row that the sessions take at once; where each runs alone, some to follow."""
    return settings.sessions * (settings.max_batch_rows if is_batched else SINGLES_PER_SESSION)


def _text_task(
    session: Session, signature: Signature, files: ModelFiles, model: inference_pb2.Model, max_tokens: int
) -> Task:
    """The task of a model for texts, after one run. Completes max_tokens and dimensions."""
    if files.tokenizer is None:
        raise ModelNotReadyError("a text model needs tokenizer.json beside it")
    description = files.description
    tokenizer = Tokenizer(files.tokenizer, max_tokens or description.max_tokens or 0)
    kind = TextRows(signature, description, tokenizer.pad_id)
    width = _warm_width(session, tokenizer, kind)
    model.max_tokens = tokenizer.max_tokens
    if model.task == payload_pb2.TASK_RERANK:
        if width != 1:
            raise ModelNotReadyError(f"the model gives {width} numbers for each text; rerank needs 1")
        return RerankTask(tokenizer, kind)
    if model.task == payload_pb2.TASK_CLASSIFY:
        if width != len(description.labels):
            raise ModelNotReadyError(
                f"the model gives {width} logits; model.json has {len(description.labels)} labels"
            )
        return ClassifyTask(tokenizer, kind, description.labels, description.activation)
    model.dimensions = width
    normalise = kind.pools_here if description.normalise is None else description.normalise
    prompts = read_prompts(files.graph.parent)
    return EmbedTask(tokenizer, kind, prompts, dimensions=width, normalise=normalise)


def _warm_width(session: Session, tokenizer: Tokenizer, kind: TextRows) -> int:
    """The width of the vectors of one short text."""
    row = text_row(0, tokenizer.encode_cut(WARM_UP_TEXT))
    try:
        (vector,) = kind.compute([row], session.run)
    except MeshError as error:
        raise ModelNotReadyError("the model failed on its first text") from error
    if vector.ndim != 1:
        raise ModelNotReadyError(f"the model gives {vector.ndim} dimensions for each text; it must be 1")
    return len(vector)
