"""The llama.cpp engine: the asyncio side of one model.

Owns the model's life, the admission limit and the readers' mailboxes. The decode thread owns
everything that computes. Task generate only: embeddings need a context of their own kind,
which would stand beside `opened`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from inference_mesh import telemetry
from inference_mesh.deadlines import remaining_s
from inference_mesh.errors import (
    DeadlineExceededError,
    InvalidInputError,
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
from workers.llama.request import answer_count, is_quick_to_read, monotonic_deadline
from workers.llama.settings import LlamaSettings
from workers.llama.stages import stages_of
from workers.observer import EngineObserver

log = telemetry.get_logger(__name__)

PIECES_APART_S = 0.005
"""Least time between two pieces of a stream: a message costs more than the tokens of a fast model."""

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
        count = answer_count(request.payload)
        thread = self._admit(count)
        try:
            jobs = await self._prepare(thread, request)
        except BaseException:
            self._admitted -= count
            raise
        mailbox = Mailbox(PIECES_APART_S)
        self._mailboxes.update(dict.fromkeys(jobs, mailbox))
        try:
            if jobs[0].text.is_stopped or jobs[0].made >= jobs[0].max_tokens:
                yield _nothing_left(jobs[0])
                return
            for job in jobs:
                thread.opened.loop.submit(job)
            yield Chunk(payload_pb2.Output(), prompt_tokens=jobs[0].prompt_length)
            async for chunk in self._read(mailbox, jobs, request.deadline):
                yield chunk
        finally:
            if request.stages is not None:
                for job in jobs:
                    request.stages.extend(stages_of(job, time.monotonic()))
            self._leave(jobs)
            thread.opened.loop.wake()

    def _admit(self, count: int) -> DecodeThread:
        """Take so many answers on; each is counted until it ends."""
        if self._is_closing:
            raise ShuttingDownError("the worker is shutting down")
        if self._thread is None:
            raise ModelNotReadyError("the model is not loaded")
        most = self._settings.slots + self._settings.max_queue
        if count > most:
            raise InvalidInputError(f"n is {count}; this worker takes {most} answers at a time")
        if self._admitted + count > most:
            raise OverloadedError(
                f"the queue is full ({self._settings.max_queue} requests)",
                retry_after_s=self._retry_after_s(),
            )
        self._admitted += count
        return self._thread

    def _leave(self, jobs: Sequence[Job]) -> None:
        """Nobody waits for these jobs any more."""
        for job in jobs:
            job.is_cancelled = True
            if self._mailboxes.pop(job, None) is not None:
                self._admitted -= 1

    async def _prepare(self, thread: DecodeThread, request: EngineRequest) -> list[Job]:
        """The jobs of a request, made in a thread if that takes long."""
        remaining_s(request.deadline)
        arrived = time.monotonic()
        deadline = monotonic_deadline(request.deadline, asyncio.get_running_loop().time())
        read = thread.opened.requests.jobs
        if is_quick_to_read(request.payload):
            return read(request, deadline, arrived)
        return await asyncio.to_thread(read, request, deadline, arrived)

    async def _read(
        self, mailbox: Mailbox, jobs: Sequence[Job], deadline: float | None
    ) -> AsyncGenerator[Chunk]:
        left = len(jobs)
        while left:
            try:
                async with asyncio.timeout_at(deadline):
                    arrived = await mailbox.take()
            except TimeoutError:
                raise DeadlineExceededError("the deadline passed before the answer was complete") from None
            for progress in arrived:
                if progress.is_last:
                    left -= 1
                    self._note_duration(progress.job)
                yield _chunk(progress) if left else _last_chunk(progress, jobs)

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
                if progress.is_last:
                    del self._mailboxes[progress.job]
                    self._admitted -= 1

    def _note_duration(self, job: Job) -> None:
        if job.ended_s is not None and job.started_s is not None:
            self._request_s += 0.2 * (job.ended_s - job.started_s - self._request_s)

    def _retry_after_s(self) -> float:
        """When the queue will have moved on by about one turn of all slots."""
        turns = self._admitted / self._settings.slots
        return min(max(self._request_s * turns / 2, 0.1), 30.0)


def _chunk(progress: Progress) -> Chunk:
    job = progress.job
    generated = payload_pb2.Generated(
        text=progress.text,
        tokens=progress.tokens,
        finish_reason=progress.finish_reason,
        length_reason=progress.length_reason,
        index=job.index,
    )
    if progress.logprobs:
        generated.logprobs.extend(progress.logprobs)
    if progress.calls:
        generated.tool_calls.extend(progress.calls)
    if progress.is_last and job.text.is_stopped:
        generated.stop_text = job.text.stop_text
    return Chunk(payload_pb2.Output(generate=generated), prompt_tokens=job.prompt_length)


def _last_chunk(progress: Progress, jobs: Sequence[Job]) -> Chunk:
    """The last piece of the last answer. The prompt is counted once, however many answers it has."""
    chunk, first = _chunk(progress), jobs[0]
    usage = payload_pb2.Usage(
        prompt_tokens=first.prompt_length,
        completion_tokens=sum(job.made for job in jobs),
        cached_tokens=first.cached,
    )
    return Chunk(chunk.output, chunk.prompt_tokens, usage, _timing(jobs))


def _timing(jobs: Sequence[Job]) -> payload_pb2.Timing:
    """From the first answer's start to the last one's end."""
    arrived_s = jobs[0].arrived_s
    started = [job.started_s for job in jobs if job.started_s is not None]
    ended = [job.ended_s for job in jobs if job.ended_s is not None]
    first = [job.first_token_s for job in jobs if job.first_token_s is not None]
    if not started or not ended:
        return payload_pb2.Timing()
    return payload_pb2.Timing(
        queue_s=min(started) - arrived_s,
        compute_s=max(ended) - min(started),
        first_token_s=min(first) - arrived_s if first else 0.0,
    )


def _nothing_left(job: Job) -> Chunk:
    """The end of a stream whose answer was delivered whole before it broke."""
    reason = payload_pb2.FINISH_REASON_STOP if job.text.is_stopped else payload_pb2.FINISH_REASON_LENGTH
    return _last_chunk(Progress(job, finish_reason=reason), [job])
