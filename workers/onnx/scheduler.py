"""The queue of one model and the runs that empty it.

Owns waiting and running requests and the threads of the sessions. All its state lives on the
event loop; a thread only computes one batch and hands the results back. There is no waiting
for a batch to fill: what queued while the last runs were busy forms the next ones.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

from inference_mesh import telemetry
from inference_mesh.errors import (
    DeadlineExceededError,
    InternalError,
    MeshError,
    OverloadedError,
    ShuttingDownError,
)
from workers.engine import Load, Stage
from workers.observer import EngineObserver
from workers.onnx.batching import Limits, Row, next_batch, shared_limits
from workers.onnx.rows import RowKind, Work
from workers.onnx.sessions import Session, StopSwitch
from workers.priority import Priority, turn_s

ROWS_PER_REQUEST = 16
SMOOTHING = 0.2
LONGEST_HINT_S = 30.0


@dataclasses.dataclass(slots=True, eq=False)
class Ticket:
    """One admitted request. From `compute` on it has rows; pending: those that no run has taken yet.

    deadline in seconds of `loop.time()`, the other times in seconds of `time.monotonic()`. turn_s:
    its place in the queue, the lowest first. stages: where its batches are noted; None = nobody asks.
    """

    deadline: float | None
    priority: Priority
    arrived_s: float
    done: asyncio.Future[None]
    stages: list[Stage] | None = None
    kind: RowKind = dataclasses.field(init=False)
    pending: list[Row] = dataclasses.field(default_factory=list)
    results: list[Any] = dataclasses.field(default_factory=list)
    missing: int = 0
    started_s: float = 0.0
    turn_s: float = 0.0
    is_withdrawn: bool = False

    def to_end(self, now_s: float) -> None:
        """Take the last place in its class."""
        self.turn_s = turn_s(self.priority, now_s)

    def note_queue(self, now_s: float) -> None:
        """Note how long it waited, before its batches; now_s: if none of it was begun."""
        if self.stages is not None:
            self.stages.insert(0, Stage("queue", self.arrived_s, self.started_s or now_s))

    def note_batch(self, run: Run, rows: int, now_s: float) -> None:
        """Note a batch that had so many rows of it; two requests with one number were computed together."""
        if self.stages is not None:
            facts = {
                "mesh.batch.number": run.number,
                "mesh.batch.rows": run.row_count,
                "mesh.batch.requests": len(run.shares),
                "mesh.batch.own_rows": rows,
            }
            self.stages.append(Stage("batch", run.started_s, now_s, facts))


Share: TypeAlias = tuple[Ticket, list[Row]]
Outcome: TypeAlias = list[Any] | MeshError


@dataclasses.dataclass(slots=True, eq=False)
class Run:
    """One batch on one session: the rows that each request has in it. number: of all, from 1 on."""

    session: Session
    shares: list[Share]
    switch: StopSwitch
    started_s: float
    number: int

    @property
    def row_count(self) -> int:
        """Rows in the batch."""
        return sum(len(rows) for _, rows in self.shares)


class Scheduler:
    """Admits requests, forms batches and runs them; one owner, on the running event loop."""

    def __init__(
        self, sessions: Sequence[Session], limits: Limits, max_queue: int, observer: EngineObserver
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        self._max_queue = max_queue
        self._observer = observer
        self._session_count = len(sessions)
        self._idle = list(sessions)
        self._preparing: set[Ticket] = set()
        # A request goes to the end of its class whenever a run takes rows of it.
        self._waiting: dict[Ticket, None] = {}
        self._runs: set[Run] = set()
        self._row_s = 0.0
        self._run_count = 0
        self._is_closed = False
        self._threads = concurrent.futures.ThreadPoolExecutor(len(sessions), thread_name_prefix="onnx")

    def admit(self, deadline: float | None, priority: Priority, stages: list[Stage] | None = None) -> Ticket:
        """A place in the queue, to be given back by `leave`. Raises OverloadedError, ShuttingDownError."""
        if self._is_closed:
            raise ShuttingDownError("the model is being unloaded")
        rows = sum([len(ticket.pending) for ticket in self._waiting])
        requests = len(self._waiting) + len(self._preparing)
        if requests >= self._max_queue or rows >= self._max_queue * ROWS_PER_REQUEST:
            raise OverloadedError(
                f"the model's queue is full: {requests} requests wait",
                retry_after_s=retry_hint_s(rows or requests, self._row_s / self._session_count),
            )
        ticket = Ticket(deadline, priority, time.monotonic(), self._loop.create_future(), stages)
        ticket.to_end(ticket.arrived_s)
        self._preparing.add(ticket)
        return ticket

    async def compute(self, ticket: Ticket, work: Work) -> list[Any]:
        """The results of the rows, by their index. Raises what the model's run raises."""
        if self._is_closed:
            raise ShuttingDownError("the model is being unloaded")
        ticket.kind = work.kind
        ticket.pending = sorted(work.rows, key=lambda row: -row.length)
        ticket.results = [None] * len(work.rows)
        ticket.missing = len(work.rows)
        self._preparing.discard(ticket)
        self._waiting[ticket] = None
        self._start_runs()
        await ticket.done
        return ticket.results

    def leave(self, ticket: Ticket) -> None:
        """Give the place back: what is not computed yet never will be. Safe to call twice."""
        ticket.is_withdrawn = True
        self._preparing.discard(ticket)
        if ticket in self._waiting:
            self._drop(ticket)
        for run in self._runs:
            if all(member.is_withdrawn for member, _ in run.shares):
                run.switch.stop()

    def load_now(self, slots: int) -> Load:
        """How busy the sessions are. slots: requests that they are said to take at once."""
        running = {ticket for run in self._runs for ticket, _ in run.shares if not ticket.is_withdrawn}
        waiting = sum(ticket not in running for ticket in self._waiting)
        return Load(
            utilization=len(self._runs) / self._session_count,
            queued=waiting + len(self._preparing),
            running=len(running),
            slots=slots,
        )

    async def close(self) -> None:
        """Fail every request with ShuttingDownError, and wait for the threads to end."""
        self._is_closed = True
        running = [ticket for run in self._runs for ticket, _ in run.shares]
        for ticket in {*running, *self._waiting}:
            _fail(ticket, ShuttingDownError("the model is being unloaded"))
        self._waiting.clear()
        for run in self._runs:
            run.switch.stop()
        await asyncio.to_thread(self._threads.shutdown)

    def _start_runs(self) -> None:
        while self._idle and self._waiting and not self._is_closed:
            self._drop_expired()
            if self._waiting:
                shares = self._take_batch()
                self._run_count += 1
                run = Run(self._idle.pop(), shares, StopSwitch(), time.monotonic(), self._run_count)
                self._runs.add(run)
                for ticket, _ in shares:
                    ticket.started_s = ticket.started_s or run.started_s
                self._threads.submit(self._compute_on_thread, run)

    def _drop_expired(self) -> None:
        """Timers can be late on a busy loop: look at the clock before computing."""
        now = self._loop.time()
        for ticket in [
            ticket for ticket in self._waiting if ticket.deadline is not None and ticket.deadline <= now
        ]:
            self._drop(ticket)
            _fail(ticket, DeadlineExceededError("the deadline passed while the request waited"))

    def _drop(self, ticket: Ticket) -> None:
        """Take out a waiting request that nobody waits for any more."""
        del self._waiting[ticket]
        if not ticket.started_s:
            self._observer.requests_dropped(1)

    def _take_batch(self) -> list[Share]:
        """The next batch; its rows leave the queue."""
        tickets = sorted(self._waiting, key=lambda ticket: ticket.turn_s)
        shares: dict[Ticket, list[Row]] = {}
        queue = [ticket.pending for ticket in tickets]
        limits = self._limits
        if len(self._idle) > 1:
            lines = sum(row.lines for pending in queue for row in pending)
            limits = shared_limits(limits, lines, len(self._idle))
        for place in next_batch(queue, limits):
            ticket = tickets[place.request]
            shares.setdefault(ticket, []).append(ticket.pending[place.row])
        now = time.monotonic()
        for ticket, rows in shares.items():
            taken = set(rows)
            ticket.pending = [row for row in ticket.pending if row not in taken]
            ticket.to_end(now)
            if not ticket.pending:
                del self._waiting[ticket]
        return list(shares.items())

    def _compute_on_thread(self, run: Run) -> None:
        outcomes = compute_shares(run)
        self._loop.call_soon_threadsafe(self._finish, run, outcomes)

    def _finish(self, run: Run, outcomes: Sequence[Outcome]) -> None:
        self._runs.discard(run)
        self._idle.append(run.session)
        now_s = time.monotonic()
        seconds = (now_s - run.started_s) / run.row_count
        self._row_s += (seconds - self._row_s) * (SMOOTHING if self._row_s else 1.0)
        self._start_runs()
        self._observer.batch_computed(run.row_count)
        for (ticket, rows), outcome in zip(run.shares, outcomes, strict=True):
            ticket.note_batch(run, len(rows), now_s)
            if isinstance(outcome, MeshError):
                self._waiting.pop(ticket, None)
                _fail(ticket, outcome)
            else:
                _store(ticket, rows, outcome)


def retry_hint_s(rows: int, row_s: float) -> float:
    """When the queue may have room again: the time that half of it takes, 0.1 to 30 s."""
    return min(max(rows * row_s / 2, 0.1), LONGEST_HINT_S)


def compute_shares(run: Run) -> list[Outcome]:
    """The results of each request in the batch; if the batch fails, each is computed alone.

    One request's values can make an operator fail: only that request may suffer.
    """
    together = _compute(run, run.shares)
    if not isinstance(together, MeshError):
        results = iter(together)
        return [[next(results) for _ in rows] for _, rows in run.shares]
    if len(run.shares) == 1:
        return [together]
    return [_compute(run, [share]) for share in run.shares]


def _compute(run: Run, shares: Sequence[Share]) -> Outcome:
    if all(ticket.is_withdrawn for ticket, _ in shares):
        return InternalError("the caller left")
    kind = shares[0][0].kind
    rows = [row for _, share_rows in shares for row in share_rows]
    try:
        return kind.compute(rows, lambda outputs, feeds: run.session.run(outputs, feeds, run.switch))
    except MeshError as error:
        return error
    except Exception:  # noqa: BLE001 - whatever it is, it must reach the callers and not end the thread
        telemetry.get_logger(__name__).exception("a batch failed", rows=len(rows))
        return InternalError("the model failed on this request")


def _store(ticket: Ticket, rows: Sequence[Row], results: Sequence[Any]) -> None:
    for row, result in zip(rows, results, strict=True):
        ticket.results[row.index] = result
    ticket.missing -= len(rows)
    if not ticket.missing and not ticket.done.done():
        ticket.done.set_result(None)


def _fail(ticket: Ticket, error: MeshError) -> None:
    if not ticket.done.done():
        ticket.done.set_exception(error)
