"""The requests that wait for a model of vectors or scores, and the batches that serve them.

Owns waiting and running requests. All its state lives on the event loop; the thread only computes
one batch and hands its vectors back. What queued while a batch was computed forms the next one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from inference_mesh.errors import (
    DeadlineExceededError,
    InternalError,
    MeshError,
    OverloadedError,
    ShuttingDownError,
)
from workers.engine import EngineRequest, Load, Stage
from workers.llama.text_batching import PackLimits, next_pack
from workers.llama.text_context import FloatArray
from workers.observer import EngineObserver
from workers.priority import turn_s

TEXTS_PER_REQUEST = 16
"""How many texts a waiting request is taken to have when the queue's limit is judged."""

SMOOTHING = 0.2
LEAST_HINT_S, LONGEST_HINT_S = 0.1, 30.0

Tokens: TypeAlias = Sequence[int]


@dataclasses.dataclass(slots=True, eq=False)
class Ticket:
    """One admitted request. pending: its texts that no batch has taken yet, by their position.

    The times are in seconds of `time.monotonic()`. turn_s: its place in the queue, the lowest first.
    """

    request: EngineRequest
    arrived_s: float
    turn_s: float
    done: asyncio.Future[None]
    texts: Sequence[Tokens] = ()
    pending: list[int] = dataclasses.field(default_factory=list)
    vectors: dict[int, FloatArray] = dataclasses.field(default_factory=dict)
    started_s: float = 0.0
    is_withdrawn: bool = False

    def note(self, stage: Stage) -> None:
        """Keep a stage of it, where somebody asks."""
        if self.request.stages is not None:
            self.request.stages.append(stage)


Share: TypeAlias = tuple[Ticket, list[int]]
"""The positions of a request's texts that a batch has."""


@dataclasses.dataclass(slots=True, eq=False)
class Run:
    """One batch. is_abandoned: nobody waits for it any more."""

    shares: list[Share]
    started_s: float
    number: int
    is_abandoned: bool = False

    @property
    def text_count(self) -> int:
        """Texts in the batch."""
        return sum(len(positions) for _, positions in self.shares)


Outcome: TypeAlias = Sequence[FloatArray] | MeshError
ComputeRun: TypeAlias = Callable[[Run, Callable[[list[Outcome]], None]], None]
"""Starts computing a run elsewhere; the outcome of each share is passed on the event loop."""


class TextQueue:
    """Admits requests and forms batches; one owner, on the running event loop."""

    def __init__(
        self, compute: ComputeRun, limits: PackLimits, max_queue: int, observer: EngineObserver
    ) -> None:
        self._compute = compute
        self._limits = limits
        self._max_queue = max_queue
        self._observer = observer
        self._reading: set[Ticket] = set()
        self._waiting: dict[Ticket, None] = {}
        self._run: Run | None = None
        self._run_count = 0
        self._text_s = 0.0
        self._is_closed = False

    def admit(self, request: EngineRequest) -> Ticket:
        """A place in the queue, to be given back by `leave`. Raises OverloadedError, ShuttingDownError."""
        self._check_open()
        texts = sum(len(ticket.pending) for ticket in self._waiting)
        requests = len(self._waiting) + len(self._reading)
        if requests >= self._max_queue or texts >= self._max_queue * TEXTS_PER_REQUEST:
            hint_s = min(max((texts or requests) * self._text_s / 2, LEAST_HINT_S), LONGEST_HINT_S)
            raise OverloadedError(
                f"the model's queue is full: {requests} requests wait", retry_after_s=hint_s
            )
        now_s = time.monotonic()
        done = asyncio.get_running_loop().create_future()
        ticket = Ticket(request, now_s, turn_s(request.priority, now_s), done)
        self._reading.add(ticket)
        return ticket

    async def compute(self, ticket: Ticket, texts: Sequence[Tokens]) -> list[FloatArray]:
        """The vector of each text. Raises what the computing raises."""
        self._check_open()
        ticket.texts = texts
        ticket.pending = list(range(len(texts)))
        self._reading.discard(ticket)
        self._waiting[ticket] = None
        self._start_run()
        await ticket.done
        return [ticket.vectors[position] for position in range(len(texts))]

    def leave(self, ticket: Ticket) -> None:
        """Give the place back: what is not computed yet never will be. Safe to call twice."""
        ticket.is_withdrawn = True
        self._reading.discard(ticket)
        if ticket in self._waiting:
            self._drop(ticket)
        run = self._run
        if run is not None and all(member.is_withdrawn for member, _ in run.shares):
            run.is_abandoned = True

    def load_now(self, slots: int) -> Load:
        """How busy the model is. slots: as the model tells it."""
        shares = self._run.shares if self._run else []
        running = {ticket for ticket, _ in shares if not ticket.is_withdrawn}
        waiting = sum(ticket not in running for ticket in self._waiting)
        return Load(
            utilization=float(self._run is not None),
            queued=waiting + len(self._reading),
            running=len(running),
            slots=slots,
        )

    def close(self) -> None:
        """Fail every request with ShuttingDownError; the batch at work is given up."""
        self._is_closed = True
        running = [ticket for ticket, _ in self._run.shares] if self._run else []
        for ticket in {*running, *self._waiting}:
            _fail(ticket, ShuttingDownError("the model is being unloaded"))
        self._waiting.clear()
        if self._run is not None:
            self._run.is_abandoned = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise ShuttingDownError("the model is being unloaded")

    def _start_run(self) -> None:
        if self._run is not None or self._is_closed:
            return
        self._drop_expired()
        if not self._waiting:
            return
        self._run_count += 1
        self._run = run = Run(self._take(), time.monotonic(), self._run_count)
        for ticket, _ in run.shares:
            if not ticket.started_s:
                ticket.started_s = run.started_s
                ticket.note(Stage("queue", ticket.arrived_s, run.started_s))
        self._compute(run, lambda outcomes: self._finish(run, outcomes))

    def _drop_expired(self) -> None:
        """Timers can be late on a busy loop: look at the clock before computing."""
        now = asyncio.get_running_loop().time()
        for ticket in list(self._waiting):
            deadline = ticket.request.deadline
            if deadline is not None and deadline <= now:
                self._drop(ticket)
                _fail(ticket, DeadlineExceededError("the deadline passed while the request waited"))

    def _drop(self, ticket: Ticket) -> None:
        """Take out a waiting request that nobody waits for any more."""
        del self._waiting[ticket]
        if not ticket.started_s:
            ticket.note(Stage("queue", ticket.arrived_s, time.monotonic()))
            self._observer.requests_dropped(1)

    def _take(self) -> list[Share]:
        """The next batch; its texts leave the queue, and their requests go to the end of their class."""
        tickets = sorted(self._waiting, key=lambda ticket: ticket.turn_s)
        lengths = [[len(ticket.texts[position]) for position in ticket.pending] for ticket in tickets]
        shares: dict[Ticket, list[int]] = {}
        for place in next_pack(lengths, self._limits):
            ticket = tickets[place.request]
            shares.setdefault(ticket, []).append(ticket.pending[place.text])
        now_s = time.monotonic()
        for ticket, positions in shares.items():
            taken = set(positions)
            ticket.pending = [position for position in ticket.pending if position not in taken]
            ticket.turn_s = turn_s(ticket.request.priority, now_s)
            if not ticket.pending:
                del self._waiting[ticket]
        return list(shares.items())

    def _finish(self, run: Run, outcomes: Sequence[Outcome]) -> None:
        self._run = None
        now_s = time.monotonic()
        seconds = (now_s - run.started_s) / run.text_count
        self._text_s += (seconds - self._text_s) * (SMOOTHING if self._text_s else 1.0)
        self._observer.batch_computed(run.text_count)
        self._start_run()
        for (ticket, positions), outcome in zip(run.shares, outcomes, strict=True):
            ticket.note(_batch_stage(run, len(positions), now_s))
            if isinstance(outcome, MeshError):
                self._waiting.pop(ticket, None)
                _fail(ticket, outcome)
            else:
                ticket.vectors.update(zip(positions, outcome, strict=True))
                if len(ticket.vectors) == len(ticket.texts) and not ticket.done.done():
                    ticket.done.set_result(None)


def compute_shares(run: Run, vectors: Callable[[Sequence[Tokens]], FloatArray]) -> list[Outcome]:
    """The vectors of each share of a run; if the batch fails, each request is computed alone."""
    together = _computed(run, run.shares, vectors)
    if not isinstance(together, MeshError):
        rows = iter(together)
        return [[next(rows) for _ in positions] for _, positions in run.shares]
    if len(run.shares) == 1 or run.is_abandoned:
        return [together] * len(run.shares)
    return [_computed(run, [share], vectors) for share in run.shares]


def _computed(
    run: Run, shares: Sequence[Share], vectors: Callable[[Sequence[Tokens]], FloatArray]
) -> Outcome:
    if run.is_abandoned:
        return InternalError("nobody waits for this batch any more")
    try:
        found = vectors([ticket.texts[position] for ticket, positions in shares for position in positions])
    except MeshError as error:
        return error
    if not bool((abs(found) < float("inf")).all()):
        return InternalError("the model computed numbers that are not finite")
    return list(found)


def _batch_stage(run: Run, own_texts: int, now_s: float) -> Stage:
    """Two requests with one batch number were computed together."""
    facts = {
        "mesh.batch.number": run.number,
        "mesh.batch.rows": run.text_count,
        "mesh.batch.requests": len(run.shares),
        "mesh.batch.own_rows": own_texts,
    }
    return Stage("batch", run.started_s, now_s, facts)


def _fail(ticket: Ticket, error: MeshError) -> None:
    if not ticket.done.done():
        ticket.done.set_exception(error)
