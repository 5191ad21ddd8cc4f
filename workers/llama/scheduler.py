"""Which jobs are at work, and which of their tokens the next step computes.

Owns the queue, the running jobs and the prefix cache. Pure: no clock, no native call; what is
to be done with the KV cells is returned as values. A step takes the newest token of every job
that generates first, and then prompt tokens as far as they fit, so that a long prompt delays
the tokens of others by one chunk at most.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Iterator, Sequence

from workers.llama.job import Job
from workers.llama.prefill_pace import PrefillPace
from workers.llama.prefix_cache import CellOperation, PrefixCache, common_prefix

LONE_STEP_S = 0.25
SHARED_STEP_S = 0.1
"""How long a step with prompt tokens may take: while nobody generates, and while somebody does."""

SETTLED_TOKENS = 4
"""A stream with fewer tokens than this waits for the prompts that came with it: of a burst all begin
sooner, and all take part in the steps that follow."""

MIN_SHARED_TOKENS = 32
"""A prompt waits for another's prefill when it saves at least this many tokens."""


@dataclasses.dataclass(frozen=True, slots=True)
class StepRow:
    """One job's part of a step: `count` of its tokens from position `start` on."""

    job: Job
    start: int
    count: int

    @property
    def wants_logits(self) -> bool:
        """True if the last of these is the job's newest token."""
        return self.start + self.count == len(self.job.tokens)


class Scheduler:
    """Admission and step plans of one context."""

    def __init__(self, cache: PrefixCache, *, slots: int, batch_tokens: int, prefill_chunk: int) -> None:
        """Begin without jobs.

        batch_tokens: the most tokens of a step. prefill_chunk: of them prompt tokens, when another
        job generates.
        """
        self._cache = cache
        self._slots = slots
        self._batch_tokens = batch_tokens
        self._prefill_chunk = prefill_chunk
        self._waiting: list[Job] = []
        self._running: list[Job] = []
        self._is_held = False
        self._pace = PrefillPace()

    @property
    def waiting(self) -> Sequence[Job]:
        """The queue, next first."""
        return self._waiting

    @property
    def running(self) -> Sequence[Job]:
        """The jobs at work, oldest first."""
        return self._running

    @property
    def has_work(self) -> bool:
        """True if any job waits or runs."""
        return bool(self._waiting or self._running)

    @property
    def leased_tokens(self) -> int:
        """KV cells of running jobs, an upper bound."""
        return self._cache.leased_tokens

    def enqueue(self, job: Job) -> None:
        """Put a new job into the queue, behind those whose turn is no later."""
        bisect.insort_right(self._waiting, job, key=lambda waiting: waiting.turn_s)

    def gone(self, now: float) -> list[Job]:
        """The jobs, queued or running, that nobody waits for any more."""
        return [job for job in (*self._waiting, *self._running) if job.is_gone(now)]

    def admit(self) -> list[CellOperation]:
        """Start as many queued jobs as there are slots, in the order of their turns."""
        operations: list[CellOperation] = []
        for job in list(self._waiting):
            if self._is_held or len(self._running) >= self._slots:
                break
            if self._awaits_prefill(job):
                continue
            lease = self._cache.lease(job.tokens, job.tenant)
            if lease is None:
                break
            self._start(job, lease.sequence, lease.cached)
            operations.extend(lease.operations)
        return operations

    def plan(self) -> list[StepRow]:
        """What the next step computes; empty when no job is at work."""
        rows = [StepRow(job, job.computed, 1) for job in self._running if not job.is_prefilling]
        budget = min(self._prefill_budget(), self._batch_tokens - len(rows))
        for job in self._running:
            if job.is_prefilling and budget > 0:
                count = min(len(job.tokens) - job.computed, budget)
                rows.append(StepRow(job, job.computed, count))
                budget -= count
        return rows

    def computed(self, rows: Sequence[StepRow], seconds: float) -> None:
        """Note that a step was computed, and how long it took."""
        if any(row.job.is_prefilling for row in rows):
            self._pace.observe(sum(row.count for row in rows), seconds)
        else:
            self._pace.observe_decode(seconds)
        for row in rows:
            row.job.computed = row.start + row.count
            self._cache.computed(row.job.sequence, row.job.computed)

    def end(self, job: Job) -> tuple[CellOperation, ...]:
        """Take a job out, wherever it is, and keep its prefix for others."""
        if job not in self._running:
            self._waiting.remove(job)
            return ()
        self._running.remove(job)
        self._is_held = False
        return self._cache.release(job.sequence)

    def make_room(self) -> tuple[CellOperation, ...]:
        """Free KV cells: the oldest idle prefix, else the youngest job, which must start again.

        After a preemption nobody is admitted until a job ends; otherwise the newcomers would
        take the room again, and nobody would ever end. Empty when the only job is too big.
        """
        operations = self._cache.evict_oldest()
        if operations or len(self._running) < 2:
            return operations
        youngest = self._running.pop()
        operations = self._cache.discard(youngest.sequence)
        youngest.sequence, youngest.computed, youngest.turn_s = -1, 0, -math.inf
        self._waiting.insert(0, youngest)
        self._is_held = True
        return operations

    def drop_all(self) -> list[Job]:
        """Take out every running job after the memory was lost."""
        dropped, self._running = self._running, []
        self._cache.forget_all()
        self._is_held = False
        return dropped

    def _start(self, job: Job, sequence: int, cached: int) -> None:
        self._waiting.remove(job)
        self._running.append(job)
        is_first_start = job.started_s is None
        job.sequence, job.computed = sequence, cached
        if is_first_start:
            job.cached = min(cached, job.prompt_length)

    def _prefill_budget(self) -> int:
        """The most prompt tokens of the next step."""
        if any(not job.is_prefilling and job.made >= SETTLED_TOKENS for job in self._running):
            return self._pace.tokens_within(self._pace.shared_step_s(SHARED_STEP_S), self._prefill_chunk)
        return self._pace.tokens_within(LONE_STEP_S, self._batch_tokens)

    def _awaits_prefill(self, job: Job) -> bool:
        """True if a running job computes a long beginning of this one's prompt right now."""
        if not self._cache.can_share:
            return False
        available: int | None = None
        for other in self._shareable(job):
            limit = min(len(other.tokens), len(job.tokens)) - 1
            expected = common_prefix(other.tokens, job.tokens, limit)
            # Answers to one request wait for any prompt: it is computed once.
            is_sibling = job.siblings is not None and job.siblings is other.siblings
            least = 1 if is_sibling else MIN_SHARED_TOKENS
            if expected < least:
                continue
            if available is None:
                available = self._cache.match_length(job.tokens, job.tenant)
            if expected - available >= least:
                return True
        return False

    def _shareable(self, job: Job) -> Iterator[Job]:
        return (other for other in self._running if other.is_prefilling and other.tenant == job.tenant)
