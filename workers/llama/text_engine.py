"""The llama.cpp engine for embed and rerank: the asyncio side of one model.

Owns the model's life and the way of a request: admit, read, compute, answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from inference_mesh import telemetry
from inference_mesh.deadlines import remaining_s
from inference_mesh.errors import (
    DeadlineExceededError,
    InternalError,
    MeshError,
    ModelNotReadyError,
    ShuttingDownError,
    TokenBudgetError,
)
from inference_mesh.v1 import inference_pb2, payload_pb2
from workers.engine import Chunk, EngineRequest, Load
from workers.llama.native_thread import NativeThread
from workers.llama.text_batching import PackLimits
from workers.llama.text_model import OpenedTexts, open_texts
from workers.llama.text_queue import Outcome, Run, TextQueue, Ticket
from workers.llama.text_settings import PACK_TEXTS, LlamaTextSettings
from workers.observer import EngineObserver

log = telemetry.get_logger(__name__)

TASKS = {"embed": payload_pb2.TASK_EMBED, "rerank": payload_pb2.TASK_RERANK}


class LlamaTextEngine:
    """A GGUF model in memory that gives vectors or scores for many requests at a time."""

    def __init__(self, settings: LlamaTextSettings, observer: EngineObserver) -> None:
        self._settings = settings
        self._observer = observer
        self._thread: NativeThread | None = None
        self._opened: OpenedTexts | None = None
        self._queue: TextQueue | None = None
        self._is_closing = False

    @property
    def model(self) -> inference_pb2.Model:
        """What the model is; max_tokens and dimensions are known after `load`."""
        settings, opened = self._settings, self._opened
        is_embed = settings.task == "embed"
        return inference_pb2.Model(
            name=settings.name,
            version=settings.version,
            task=TASKS[settings.task],
            ready=opened is not None and not self._is_closing,
            runtime="llama.cpp",
            max_tokens=opened.max_tokens if opened else 0,
            dimensions=opened.model.width if opened and is_embed else 0,
            slots=PACK_TEXTS,
        )

    async def load(self) -> None:
        """Load the model and compute one text. Raises ModelNotReadyError with the reason."""
        started = time.monotonic()
        self._thread = NativeThread("llama-texts")
        try:
            self._opened = opened = await asyncio.wrap_future(
                self._thread.submit(lambda: open_texts(self._settings))
            )
        except MeshError as error:
            raise (
                error if isinstance(error, ModelNotReadyError) else ModelNotReadyError(error.message)
            ) from None
        except Exception:
            log.exception("the model cannot be opened", model=self._settings.name)
            raise ModelNotReadyError("the model cannot be loaded") from None
        limits = PackLimits(opened.pack_tokens, PACK_TEXTS)
        self._queue = TextQueue(self._compute, limits, self._settings.max_queue, self._observer)
        log.info(
            "model loaded",
            model=self._settings.name,
            seconds=round(time.monotonic() - started, 3),
            task=self._settings.task,
            max_tokens=opened.max_tokens,
            threads=opened.model.threads,
        )

    async def submit(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """The whole output as one chunk; see the protocol."""
        try:
            async with asyncio.timeout_at(request.deadline):
                chunk = await self._answer(request)
        except TimeoutError:
            raise DeadlineExceededError("the deadline passed before the answer was complete") from None
        yield chunk

    def load_now(self) -> Load:
        """How busy the engine is."""
        if self._queue is None:
            return Load(utilization=0.0, queued=0, running=0, slots=PACK_TEXTS)
        return self._queue.load_now(PACK_TEXTS)

    async def close(self) -> None:
        """Fail what is waiting with ShuttingDownError, end the thread, free the model."""
        self._is_closing = True
        if self._queue is not None:
            self._queue.close()
        opened, self._opened = self._opened, None
        if self._thread is not None and opened is not None:
            opened.model.stop()
            await asyncio.wrap_future(self._thread.submit(opened.model.close))
            self._thread.end()

    async def _answer(self, request: EngineRequest) -> Chunk:
        opened, queue = self._ready()
        remaining_s(request.deadline)
        ticket = queue.admit(request)
        try:
            payload, task = request.payload, opened.task
            if task.is_large(payload):
                texts = await asyncio.to_thread(task.read, payload)
            else:
                texts = task.read(payload)
            tokens = sum(map(len, texts))
            if request.token_budget is not None and tokens > request.token_budget:
                raise TokenBudgetError(
                    f"the input has {tokens} tokens; the budget holds {request.token_budget}"
                )
            vectors = await queue.compute(ticket, texts)
            return _chunk(task.answer(payload, vectors), tokens, ticket)
        finally:
            queue.leave(ticket)

    def _ready(self) -> tuple[OpenedTexts, TextQueue]:
        if self._is_closing:
            raise ShuttingDownError("the worker is shutting down")
        if self._opened is None or self._queue is None:
            raise ModelNotReadyError("the model is not loaded")
        return self._opened, self._queue

    def _compute(self, run: Run, finish: Callable[[list[Outcome]], None]) -> None:
        """Have the thread compute a batch, and pass its outcomes on the event loop."""
        opened, thread, loop = self._opened, self._thread, asyncio.get_running_loop()
        if opened is None or thread is None:
            raise InternalError

        def work() -> None:
            try:
                outcomes = opened.model.outcomes(run)
            except Exception:
                log.exception("a batch failed", texts=run.text_count)
                outcomes = [InternalError("the model failed on this request") for _ in run.shares]
            try:
                loop.call_soon_threadsafe(finish, outcomes)
            except RuntimeError:
                log.warning("a batch was lost", reason="the event loop is closed")

        thread.submit(work)


def _chunk(output: payload_pb2.Output, tokens: int, ticket: Ticket) -> Chunk:
    now_s = time.monotonic()
    timing = payload_pb2.Timing(
        queue_s=ticket.started_s - ticket.arrived_s, compute_s=now_s - ticket.started_s
    )
    return Chunk(output, tokens, payload_pb2.Usage(prompt_tokens=tokens), timing)
