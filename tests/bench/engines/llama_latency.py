"""What a long prompt does to the streams that run beside it: the gaps between their tokens."""

from __future__ import annotations

import asyncio
import statistics
from random import Random

from tests.bench.engines.llama_files import random_model
from tests.bench.engines.llama_servers import Arrivals, Question, Servers, Setup, Worker, letters, servers
from tests.bench.report import Figure
from tests.support.load import percentile

COMMAND = "python -m tests.bench.engines.llama"
LONG_PROMPT_TOKENS = 2000
MOST_P99_RATIO = 3.0
STREAMS = (1, 4)
ANSWER_TOKENS = 400


def measure(rounds: int) -> list[Figure]:
    """p99 of the gaps while a long prompt is computed, against those before and after it."""
    figures = []
    setup = Setup(random_model(), threads=2, slots=8, context=4096)
    with servers() as started:
        found = asyncio.run(_all_rounds(started.worker(setup), started, rounds))
    for streams, pairs in found.items():
        beside, without = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        label = f"{streams} streams beside a prompt of {LONG_PROMPT_TOKENS} tokens"
        figures += [
            Figure(f"{label}: inter-token p99, ms", round(beside * 1e3, 1), COMMAND),
            Figure(f"{label}: without it, ms", round(without * 1e3, 1), COMMAND),
            Figure(
                f"{label}: with ÷ without",
                round(ratio, 2),
                COMMAND,
                f"<= {MOST_P99_RATIO:g}",
                ratio <= MOST_P99_RATIO,
            ),
        ]
    return figures


async def _all_rounds(worker: Worker, started: Servers, rounds: int) -> dict[int, list[tuple[float, float]]]:
    random = Random(3)
    found: dict[int, list[tuple[float, float]]] = {streams: [] for streams in STREAMS}
    for number in range(rounds):
        for streams in STREAMS:
            found[streams].append(await _gaps(worker, random, streams))
        print(f"latency: round {number + 1} of {rounds}", flush=True)
    await started.close()
    return found


async def _gaps(worker: Worker, random: Random, streams: int) -> tuple[float, float]:
    """p99 of the gaps that overlap the long prompt's time, and of all others."""
    questions = [Question(letters(random, 16), ANSWER_TOKENS) for _ in range(streams)]
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(worker.answer(question)) for question in questions]
        await asyncio.sleep(1.0)
        long = await worker.answer(Question(letters(random, LONG_PROMPT_TOKENS), 1))
    answers = [task.result() for task in running]
    beside = [gap for answer in answers for gap in _between(answer, long, overlaps=True)]
    without = [gap for answer in answers for gap in _between(answer, long, overlaps=False)]
    return percentile(beside, 99), percentile(without, 99)


def _between(answer: Arrivals, long: Arrivals, *, overlaps: bool) -> list[float]:
    pairs = zip(answer.at_s, answer.at_s[1:], strict=False)
    return [
        later - earlier
        for earlier, later in pairs
        if (later > long.sent_s and earlier < long.at_s[-1]) == overlaps
    ]
