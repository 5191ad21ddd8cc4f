"""The llama.cpp engine: the asyncio side of one model.

Owns the model's life, the admission limit and the readers' mailboxes. The decode thread owns
everything that computes. Task generate only: embeddings need a context of their own kind,
which would stand beside `opened`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator

from inference_mesh import telemetry
from inference_mesh.deadlines import remaining_s
from inference_mesh.errors import (
    DeadlineExceededError,
    ModelNotReadyError,
    OverloadedError,
    ShuttingDownError,
)
from inference_mesh.v1 import inference_pb2, payload_pb2
from workers.engine import Chunk, EngineRequest, Load
from workers.llama.decode_loop import StepReport
from workers.llama.decode_thread import DecodeThread
from workers.llama.job import Job, Progress
from workers.llama.mailbox import Mailbox
from workers.llama.request import monotonic_deadline
from workers.llama.settings import LlamaSettings
from workers.llama.stages import stages_of
from workers.observer import EngineObserver

log = telemetry.get_logger(__name__)

INLINE_BYTES = 4096
"""Requests up to this size are tokenised on the event loop: a thread would cost more."""

TYPICAL_REQUEST_S = 1.0
"""How long a request is taken to last before the first one ended."""


class LlamaEngine:
    """A GGUF model in memory, generating text for many requests at a time."""

    def __init__(self, settings: LlamaSettings, observer: EngineObserver) -> None:
        self._settings = settings
        self._observer = observer
        self._thread: DecodeThread | None = None
        self._mailboxes: dict[Job, Mailbox] = {}
        self._admitted = 0
        self._is_closing = False
        self._request_s = TYPICAL_REQUEST_S

    @property
    def model(self) -> inference_pb2.Model:
        """What the model is; max_tokens is known after `load`."""
        return inference_pb2.Model(
            name=self._settings.name,
            version=self._settings.version,
            task=payload_pb2.TASK_GENERATE,
            ready=self._thread is not None and not self._thread.opened.loop.is_stopping,
            runtime="llama.cpp",
            max_tokens=self._thread.opened.context_tokens if self._thread else 0,
            slots=self._settings.slots,
        )

    async def load(self) -> None:
        """Load the model and compute one token. Raises ModelNotReadyError with the reason."""
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        thread = DecodeThread(self._settings, report=lambda report: self._hand_over(loop, report))
        await thread.start()
        self._thread = thread
        log.info(
            "model loaded",
            model=self._settings.name,
            seconds=round(time.monotonic() - started, 3),
            context_tokens=thread.opened.context_tokens,
            cells=thread.opened.cells,
            threads=thread.opened.threads,
        )

    def submit(self, request: EngineRequest) -> AsyncIterator[Chunk]:
        """The chunks of one request; see the protocol."""
        return self._answers(request)

    def load_now(self) -> Load:
        """How busy the engine is, as of the last step."""
        if self._thread is None:
            return Load(utilization=0.0, queued=0, running=0, slots=self._settings.slots)
        state, opened = self._thread.opened.loop.state, self._thread.opened
        return Load(
            utilization=min(1.0, state.running / self._settings.slots),
            queued=max(0, self._admitted - state.running),
            running=state.running,
            kv_utilization=min(1.0, state.used_cells / opened.cells),
            slots=self._settings.slots,
            kv_tokens=opened.cells,
        )

    async def close(self) -> None:
        """Fail what is running with ShuttingDownError, stop the thread, free the model."""
        self._is_closing = True
        if self._thread is not None:
            await self._thread.close()

    async def _answers(self, request: EngineRequest) -> AsyncGenerator[Chunk]:
        thread = self._admit()
        try:
            job = await self._prepare(thread, request)
            mailbox = self._mailboxes[job] = Mailbox(job)
            try:
                if job.text.is_stopped or job.made >= job.max_tokens:
                    yield _nothing_left(job)
                    return
                thread.opened.loop.submit(job)
                yield Chunk(payload_pb2.Output(), prompt_tokens=job.prompt_length)
                async for chunk in self._read(mailbox, request.deadline):
                    yield chunk
            finally:
                if request.stages is not None:
                    request.stages.extend(stages_of(job, time.monotonic()))
                del self._mailboxes[job]
                job.is_cancelled = True
                thread.opened.loop.wake()
        finally:
            self._admitted -= 1

    def _admit(self) -> DecodeThread:
        if self._is_closing:
            raise ShuttingDownError("the worker is shutting down")
        if self._thread is None:
            raise ModelNotReadyError("the model is not loaded")
        if self._admitted >= self._settings.slots + self._settings.max_queue:
            raise OverloadedError(
                f"the queue is full ({self._settings.max_queue} requests)",
                retry_after_s=self._retry_after_s(),
            )
        self._admitted += 1
        return self._thread

    async def _prepare(self, thread: DecodeThread, request: EngineRequest) -> Job:
        """The job of a request, made in a thread if it is large."""
        remaining_s(request.deadline)
        arrived = time.monotonic()
        deadline = monotonic_deadline(request.deadline, asyncio.get_running_loop().time())
        read = thread.opened.requests.job
        if request.payload.ByteSize() <= INLINE_BYTES:
            return read(request, deadline, arrived)
        return await asyncio.to_thread(read, request, deadline, arrived)

    async def _read(self, mailbox: Mailbox, deadline: float | None) -> AsyncGenerator[Chunk]:
        job = mailbox.job
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    progress = await mailbox.take()
            except TimeoutError:
                raise DeadlineExceededError("the deadline passed before the answer was complete") from None
            if progress.is_last:
                self._note_duration(job)
                yield _last_chunk(progress)
                return
            yield _chunk(progress)

    def _hand_over(self, loop: asyncio.AbstractEventLoop, report: StepReport) -> None:
        """Pass a step's progress to the event loop; in the decode thread."""
        try:
            loop.call_soon_threadsafe(self._deliver, report)
        except RuntimeError:
            log.warning("progress lost", reason="the event loop is closed")

    def _deliver(self, report: StepReport) -> None:
        """Take over a step's progress; on the event loop."""
        if report.rows:
            self._observer.batch_computed(report.rows)
        if report.dropped:
            self._observer.requests_dropped(report.dropped)
        for progress in report.progress:
            mailbox = self._mailboxes.get(progress.job)
            if mailbox is not None:
                mailbox.put(progress)

    def _note_duration(self, job: Job) -> None:
        if job.ended_s is not None and job.started_s is not None:
            self._request_s += 0.2 * (job.ended_s - job.started_s - self._request_s)

    def _retry_after_s(self) -> float:
        """When the queue will have moved on by about one turn of all slots."""
        turns = self._admitted / self._settings.slots
        return min(max(self._request_s * turns / 2, 0.1), 30.0)


def _chunk(progress: Progress) -> Chunk:
    generated = payload_pb2.Generated(
        text=progress.text,
        tokens=progress.tokens,
        finish_reason=progress.finish_reason,
        length_reason=progress.length_reason,
    )
    return Chunk(payload_pb2.Output(generate=generated), prompt_tokens=progress.job.prompt_length)


def _last_chunk(progress: Progress) -> Chunk:
    chunk, job = _chunk(progress), progress.job
    usage = payload_pb2.Usage(
        prompt_tokens=job.prompt_length, completion_tokens=job.made, cached_tokens=job.cached
    )
    return Chunk(chunk.output, chunk.prompt_tokens, usage, _timing(job))


def _timing(job: Job) -> payload_pb2.Timing:
    if job.started_s is None or job.ended_s is None:
        return payload_pb2.Timing()
    return payload_pb2.Timing(
        queue_s=job.started_s - job.arrived_s,
        compute_s=job.ended_s - job.started_s,
        first_token_s=0.0 if job.first_token_s is None else job.first_token_s - job.arrived_s,
    )


def _nothing_left(job: Job) -> Chunk:
    """The end of a stream whose answer was delivered whole before it broke."""
    reason = payload_pb2.FINISH_REASON_STOP if job.text.is_stopped else payload_pb2.FINISH_REASON_LENGTH
    return _last_chunk(Progress(job, finish_reason=reason))
