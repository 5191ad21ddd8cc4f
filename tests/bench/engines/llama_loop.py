"""Where the decode thread's CPU time goes: computing, choosing tokens, and all the rest.

The loop of the worker with its parts timed from outside, in this process: nothing in the worker
knows of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from inference_mesh.v1 import payload_pb2
from tests.bench.engines.llama_files import random_model
from tests.bench.engines.llama_servers import END_TOKENS, letters
from tests.bench.report import Figure
from tests.support.processes import TINY_CHAT
from workers.engine import EngineRequest
from workers.llama.answer import Answerer
from workers.llama.decode_loop import DecodeLoop, StepReport
from workers.llama.job import Job, Progress
from workers.llama.native import NativeModel
from workers.llama.native_context import ContextShape, NativeContext
from workers.llama.prefix_cache import PrefixCache
from workers.llama.prompt import PromptReader
from workers.llama.request import RequestReader
from workers.llama.sampling import FloatArray, adjusted, choose
from workers.llama.scheduler import Scheduler
from workers.llama.vocabulary import read_vocabulary

COMMAND = "python -m tests.bench.engines.llama"
CONTEXT, SLOTS, BATCH_TOKENS = 1024, 16, 512
ANSWER_TOKENS = 128
MOST_OUTSIDE_PERCENT = 1.5


@dataclasses.dataclass
class Spent:
    """CPU seconds of the decode thread; `extra` is what measuring itself took."""

    decode: float = 0.0
    sampling: float = 0.0
    extra: float = 0.0
    total: float = 0.0
    steps: int = 0

    @property
    def outside(self) -> float:
        """Share of what is neither computing nor choosing."""
        total = self.total - self.extra
        return (total - self.decode - self.sampling) / total


class TimedLibrary:
    """llama.cpp's functions, with the time of `llama_decode` noted."""

    def __init__(self, library: Any, spent: Spent) -> None:
        self._library = library
        self._spent = spent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)

    def llama_decode(self, handle: object, batch: object) -> int:
        """As llama.cpp's."""
        before = time.thread_time()
        status = int(self._library.llama_decode(handle, batch))
        self._spent.decode += time.thread_time() - before
        self._spent.steps += 1
        return status


class TimedContext(NativeContext):
    """A context that notes the time of its native call; all around it counts as the loop's."""

    def __init__(self, model: NativeModel, shape: ContextShape, spent: Spent) -> None:
        super().__init__(model, shape)
        self._llama = TimedLibrary(self._llama, spent)


class TimedAnswerer(Answerer):
    """An answerer that notes what choosing a token takes, by choosing it once more."""

    spent: Spent

    def advance(self, job: Job, logits: FloatArray) -> Progress | None:
        """As Answerer."""
        before = time.thread_time()
        choose(adjusted(logits, job.sampling, job.tokens, job.prompt_length), job.sampling, job.made)
        taken = time.thread_time() - before
        self.spent.extra += taken
        self.spent.sampling += taken
        return super().advance(job, logits)


def measure(rounds: int) -> list[Figure]:
    """The share of the rest for one stream and for eight, and for tiny-chat beside it."""
    models = (("127M", random_model(), 2), ("tiny-chat", TINY_CHAT, 1))
    figures = []
    for name, path, threads in models:
        for streams in (1, 8):
            shares = [
                loop_share(path, threads, streams, ANSWER_TOKENS, seed).outside for seed in range(rounds)
            ]
            share = round(100 * statistics.median(shares), 2)
            text = f"{name}, {streams} streams: CPU outside of llama_decode and sampling, %"
            has_target = name == "127M"
            target = f"<= {MOST_OUTSIDE_PERCENT:g}" if has_target else None
            is_well = share <= MOST_OUTSIDE_PERCENT or not has_target
            figures.append(Figure(text, share, COMMAND, target, is_well))
    return figures


def loop_share(model_path: Path, threads: int, streams: int, tokens: int, seed: int) -> Spent:
    """What the loop spent on so many streams."""
    return asyncio.run(_measured(model_path, threads, streams, tokens, seed))


async def _measured(model_path: Path, threads: int, streams: int, tokens: int, seed: int) -> Spent:
    spent, random = Spent(), Random(seed)
    with contextlib.closing(NativeModel(model_path)) as model:
        shape = ContextShape(SLOTS * CONTEXT, 2 * SLOTS, BATCH_TOKENS, threads)
        with contextlib.closing(TimedContext(model, shape, spent)) as context:
            vocabulary = read_vocabulary(model)
            answerer = TimedAnswerer(vocabulary)
            answerer.spent = spent
            reader = RequestReader(
                PromptReader(model, vocabulary, CONTEXT),
                vocabulary,
                context_tokens=CONTEXT,
                default_max_tokens=tokens,
            )
            jobs = [reader.jobs(_request(random, tokens), None, 0.0)[0] for _ in range(streams)]
            cache = PrefixCache(2 * SLOTS, CONTEXT)
            scheduler = Scheduler(cache, slots=SLOTS, batch_tokens=BATCH_TOKENS, prefill_chunk=128)
            spent.total = await _run(context, scheduler, answerer, jobs)
    return spent


async def _run(context: TimedContext, scheduler: Scheduler, answerer: Answerer, jobs: Sequence[Job]) -> float:
    """CPU seconds of the thread in which the jobs run to their ends."""
    events = asyncio.get_running_loop()
    left, is_over = len(jobs), asyncio.Event()

    def deliver(report: StepReport) -> None:
        nonlocal left
        left -= sum(progress.is_last for progress in report.progress)
        if not left:
            is_over.set()

    def report(one: StepReport) -> None:
        events.call_soon_threadsafe(deliver, one)

    loop = DecodeLoop(context, scheduler, answerer, report)
    for job in jobs:
        loop.submit(job)

    def work() -> float:
        started = time.thread_time()
        loop.run()
        return time.thread_time() - started

    working = asyncio.create_task(asyncio.to_thread(work))
    await is_over.wait()
    loop.stop()
    return await working


def _request(random: Random, tokens: int) -> EngineRequest:
    sampling = payload_pb2.Sampling(seed=1, logit_bias=dict.fromkeys(END_TOKENS, -100.0))
    generate = payload_pb2.Generate(prompt=letters(random, 48), max_tokens=tokens, sampling=sampling)
    return EngineRequest(payload_pb2.Payload(generate=generate))
