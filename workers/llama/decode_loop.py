"""The thread that owns the context: one step after the other, all jobs together.

Owns every native call after loading. A step: take in new jobs, drop those that nobody waits
for, admit, compute one batch, choose tokens, tell the event loop once. Jobs come in through a
queue with a lock; progress goes out through one callback per step.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence

from inference_mesh import telemetry
from inference_mesh.errors import DeadlineExceededError, InternalError, MeshError, ShuttingDownError
from workers.llama.answer import Answerer
from workers.llama.job import Job, Progress
from workers.llama.native_context import BatchRow, DecodeStatus, NativeContext
from workers.llama.prefix_cache import TrimCells
from workers.llama.scheduler import Scheduler, StepRow

log = telemetry.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class LoopState:
    """How busy the loop is. used_cells: of running jobs."""

    running: int = 0
    queued: int = 0
    used_cells: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class StepReport:
    """What one step brought.

    rows: jobs in the batch, 0 = none was computed. dropped: queued jobs given up unbegun.
    """

    progress: tuple[Progress, ...]
    rows: int
    dropped: int = 0


class DecodeLoop:
    """Runs jobs on one context until it is stopped."""

    def __init__(
        self,
        context: NativeContext,
        scheduler: Scheduler,
        answerer: Answerer,
        report: Callable[[StepReport], None],
    ) -> None:
        """report: called in the loop's thread after each step that changed anything."""
        self._context = context
        self._scheduler = scheduler
        self._answerer = answerer
        self._report = report
        self._inbox: list[Job] = []
        self._has_news = threading.Condition()
        self._is_stopping = False
        self._rows: Sequence[StepRow] = ()
        self._progress: list[Progress] = []
        self._dropped = 0
        self.state = LoopState()
        """Replaced as a whole, so that any thread may read it."""

    def submit(self, job: Job) -> None:
        """Hand over a job; from any thread. Raises ShuttingDownError once the loop is stopping."""
        with self._has_news:
            if self._is_stopping:
                raise ShuttingDownError("the worker is shutting down")
            self._inbox.append(job)
            self._has_news.notify()

    def wake(self) -> None:
        """Look at the jobs again, e.g. because one was cancelled; from any thread."""
        if self._must_abort():
            self._context.abort.set()
        with self._has_news:
            self._has_news.notify()

    def stop(self) -> None:
        """Fail all jobs with ShuttingDownError and return from `run`; from any thread."""
        with self._has_news:
            self._is_stopping = True
            self._has_news.notify()
        self._context.abort.set()

    @property
    def is_stopping(self) -> bool:
        """True once no more jobs are taken."""
        return self._is_stopping

    def _must_abort(self) -> bool:
        """True if the batch being computed is for nobody."""
        if self._is_stopping:
            return True
        rows, now = self._rows, time.monotonic()
        return bool(rows) and all(row.job.is_gone(now) for row in rows)

    def run(self) -> None:
        """Work until stopped; no job outlives this call."""
        try:
            while self._take_in():
                self._publish(self._guarded_step())
        finally:
            self._end_all(ShuttingDownError("the worker is shutting down"))
            self._publish(0)

    def _guarded_step(self) -> int:
        try:
            return self._step()
        except Exception:
            # Queued jobs too: one of them may be the cause, and would be again at once.
            log.exception("decode step failed")
            self._fail_running(InternalError())
            for job in list(self._scheduler.waiting):
                self._end(job, error=InternalError())
            return 0

    def _take_in(self) -> bool:
        """Wait for something to do. False = the loop is stopping."""
        with self._has_news:
            while not (self._inbox or self._scheduler.has_work or self._is_stopping):
                self._has_news.wait()
            arrived, self._inbox = self._inbox, []
        for job in arrived:
            self._scheduler.enqueue(job)
        return not self._is_stopping

    def _step(self) -> int:
        """One step; the number of jobs computed in it."""
        self._drop_gone()
        self._context.apply(self._scheduler.admit())
        now = time.monotonic()
        for job in self._scheduler.running:
            job.started_s = job.started_s or now
        self._note_state()
        rows = self._compute()
        for index, row in enumerate(rows):
            row.job.steps += 1
            row.job.step_rows += len(rows)
            if row.wants_logits:
                self._advance(row.job, index)
        return len(rows)

    def _drop_gone(self) -> None:
        for job in self._scheduler.gone(time.monotonic()):
            self._dropped += job.started_s is None
            self._end(job, error=DeadlineExceededError("the deadline passed before the answer was complete"))

    def _compute(self) -> Sequence[StepRow]:
        """Compute the planned rows, making room as needed; empty if nothing came of it."""
        while rows := self._scheduler.plan():
            batch = [
                BatchRow(
                    row.job.sequence,
                    row.start,
                    row.job.tokens[row.start : row.start + row.count],
                    row.wants_logits,
                )
                for row in rows
            ]
            started = time.monotonic()
            status = self._decode(rows, batch)
            if status is DecodeStatus.DONE:
                self._scheduler.computed(rows, time.monotonic() - started)
                return rows
            if not self._recover(status, rows):
                return ()
        return ()

    def _decode(self, rows: Sequence[StepRow], batch: Sequence[BatchRow]) -> DecodeStatus:
        """Compute a batch, unless nobody waits for it by now; `wake` ends it when that is so later."""
        self._rows = rows
        self._context.abort.clear()
        status = DecodeStatus.ABORTED if self._must_abort() else self._context.decode(batch)
        self._rows = ()
        return status

    def _recover(self, status: DecodeStatus, rows: Sequence[StepRow]) -> bool:
        """Clean up after a batch that was not computed. True = plan again at once."""
        if status is DecodeStatus.ABORTED:
            self._context.apply([TrimCells(row.job.sequence, row.start) for row in rows])
            return False
        if status is DecodeStatus.CACHE_FULL:
            operations = self._scheduler.make_room()
            self._context.apply(operations)
            if operations:
                return True
        log.error("batch failed", status=status.value, rows=len(rows))
        self._fail_running(InternalError())
        return False

    def _advance(self, job: Job, row: int) -> None:
        """Choose a job's next token; the one job fails alone if that is not possible."""
        try:
            progress = self._answerer.advance(job, self._context.logits(row))
        except MeshError as error:
            self._end(job, error=error)
            return
        if progress is None:
            return
        if progress.is_last:
            self._end(job, progress=progress)
        else:
            self._progress.append(progress)

    def _end(self, job: Job, *, progress: Progress | None = None, error: MeshError | None = None) -> None:
        self._context.apply(self._scheduler.end(job))
        job.ended_s = time.monotonic()
        self._progress.append(progress or Progress(job, error=error))

    def _fail_running(self, error: MeshError) -> None:
        """Fail every running job and forget all cells; queued jobs go on afterwards."""
        for job in self._scheduler.drop_all():
            self._progress.append(Progress(job, error=error))
        self._context.clear()

    def _end_all(self, error: MeshError) -> None:
        with self._has_news:
            self._is_stopping = True
            arrived, self._inbox = self._inbox, []
        for job in (*arrived, *self._scheduler.waiting, *self._scheduler.running):
            self._progress.append(Progress(job, error=error))

    def _publish(self, rows: int) -> None:
        if not self._scheduler.has_work:  # else the next step tells it before it computes
            self._note_state()
        progress, self._progress = tuple(self._progress), []
        dropped, self._dropped = self._dropped, 0
        if progress or rows:
            self._report(StepReport(progress, rows, dropped))

    def _note_state(self) -> None:
        scheduler = self._scheduler
        self.state = LoopState(len(scheduler.running), len(scheduler.waiting), scheduler.leased_tokens)
