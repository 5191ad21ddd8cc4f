"""The ONNX Runtime engine: texts and tensors, batched as they come.

Owns a model's life and the way of a request: admit, encode, compute, decode.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from inference_mesh.deadlines import remaining_s
from inference_mesh.errors import (
    DeadlineExceededError,
    ModelNotReadyError,
    PayloadMismatchError,
    ShuttingDownError,
    TokenBudgetError,
)
from inference_mesh.v1 import inference_pb2, payload_pb2
from workers.engine import Chunk, EngineRequest, Load
from workers.observer import EngineObserver
from workers.onnx.batch_limits import batch_limits
from workers.onnx.loading import LoadedModel, load_model
from workers.onnx.rows import Task, Work
from workers.onnx.scheduler import Scheduler, Ticket
from workers.onnx.settings import OnnxSettings

T = TypeVar("T")


class OnnxEngine:
    """An `Engine` on ONNX Runtime. `load` first; then `submit` from the same event loop."""

    def __init__(self, settings: OnnxSettings, observer: EngineObserver) -> None:
        self._settings = settings
        self._observer = observer
        self._loaded: LoadedModel | None = None
        self._scheduler: Scheduler | None = None
        self._slots = 0
        self._is_closed = False

    @property
    def model(self) -> inference_pb2.Model:
        """What the model is; name and version only before `load`."""
        if self._loaded is None:
            return inference_pb2.Model(
                name=self._settings.name, version=self._settings.version, runtime="onnxruntime"
            )
        return self._loaded.model

    async def load(self) -> None:
        """Check the files, load the model and run it once. Raises ModelNotReadyError with the reason."""
        settings = self._settings
        self._loaded = await asyncio.to_thread(load_model, settings)
        self._slots = self._loaded.model.slots
        limits = batch_limits(settings, is_unpadded=self._loaded.is_unpadded)
        self._scheduler = Scheduler(self._loaded.sessions, limits, settings.max_queue, self._observer)

    async def submit(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """The whole output as one chunk.

        Raises InvalidInputError, TokenBudgetError, OverloadedError, DeadlineExceededError and
        ShuttingDownError.
        """
        try:
            async with asyncio.timeout_at(request.deadline):
                chunk = await self._answer(request)
        except TimeoutError:
            raise DeadlineExceededError("the deadline passed before the answer was complete") from None
        yield chunk

    def load_now(self) -> Load:
        """How busy the engine is at this moment."""
        if self._scheduler is None:
            return Load(utilization=0.0, queued=0, running=0)
        return self._scheduler.load_now(self._slots)

    async def close(self) -> None:
        """Fail what runs with ShuttingDownError, stop the threads, free the model."""
        self._is_closed = True
        if self._scheduler is not None:
            await self._scheduler.close()
        self._loaded = self._scheduler = None

    async def _answer(self, request: EngineRequest) -> Chunk:
        loaded, scheduler = self._ready()
        remaining_s(request.deadline)
        task = _task_of(loaded, request.payload)
        ticket = scheduler.admit(request.deadline, request.priority, request.stages)
        try:
            run = _in_thread if task.is_large(request.payload) else _at_once
            work = await run(lambda: task.encode(request.payload))
            _check_budget(work, request.token_budget)
            results = await scheduler.compute(ticket, work)
            # Large inputs have large outputs; small ones may, and then cost one copy.
            output = await run(lambda: task.decode(request.payload, results))
            return _chunk(output, work, ticket, time.monotonic())
        finally:
            ticket.note_queue(time.monotonic())
            scheduler.leave(ticket)

    def _ready(self) -> tuple[LoadedModel, Scheduler]:
        if self._is_closed:
            raise ShuttingDownError("the model is being unloaded")
        if self._loaded is None or self._scheduler is None:
            raise ModelNotReadyError(f"model '{self._settings.name}' is not loaded")
        return self._loaded, self._scheduler


def _task_of(loaded: LoadedModel, payload: payload_pb2.Payload) -> Task:
    kind = payload.WhichOneof("kind")
    task = loaded.tasks.get(kind or "")
    if task is None:
        allowed = " or ".join(sorted(loaded.tasks))
        raise PayloadMismatchError(f"the payload is '{kind or 'absent'}'; this model takes {allowed}")
    return task


def _check_budget(work: Work, token_budget: int | None) -> None:
    if token_budget is not None and work.prompt_tokens > token_budget:
        raise TokenBudgetError(f"the input has {work.prompt_tokens} tokens; the budget holds {token_budget}")


async def _in_thread(function: Callable[[], T]) -> T:
    return await asyncio.to_thread(function)


async def _at_once(function: Callable[[], T]) -> T:
    return function()


def _chunk(output: payload_pb2.Output, work: Work, ticket: Ticket, now_s: float) -> Chunk:
    return Chunk(
        output=output,
        prompt_tokens=work.prompt_tokens,
        usage=payload_pb2.Usage(prompt_tokens=work.prompt_tokens),
        timing=payload_pb2.Timing(
            queue_s=ticket.started_s - ticket.arrived_s, compute_s=now_s - ticket.started_s
        ),
    )
