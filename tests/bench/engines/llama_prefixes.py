"""What sharing a prompt's beginning saves: eight requests with one system prompt, at once.

Without reuse is the same work for eight tenants, who never share. The second wave asks the very
same prompts again, and the third others behind the same system prompt. Every round has two fresh
workers: what one kind of work leaves in the KV cache would slow the other.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from random import Random

from tests.bench.engines.llama_files import random_model
from tests.bench.engines.llama_servers import (
    Question,
    Run,
    Servers,
    Setup,
    Worker,
    ask_at_once,
    letters,
    servers,
)
from tests.bench.report import Figure

COMMAND = "python -m tests.bench.engines.llama"
REQUESTS, SYSTEM_TOKENS, OWN_TOKENS, ANSWER_TOKENS = 8, 512, 24, 16
MOST_CPU_SHARE = 0.25
MOST_TTFT_SHARE = 0.25


def measure(rounds: int) -> list[Figure]:
    """CPU seconds and times to the first token."""
    setup = Setup(random_model(), threads=2, slots=REQUESTS, context=4096)
    waves = []
    for number in range(rounds):
        with servers() as started:
            apart, together = started.worker(setup), started.worker(setup)
            waves.append(asyncio.run(_waves(apart, together, started, Random(number))))
        print(f"prefixes: round {number + 1} of {rounds}", flush=True)
    cpu = statistics.median(first.cpu_s / apart.cpu_s for apart, first, _, _ in waves)
    same = statistics.median(_ttft(second) / _ttft(first) for _, first, second, _ in waves)
    others = statistics.median(_ttft(third) / _ttft(first) for _, first, _, third in waves)
    label = f"{REQUESTS} requests with {SYSTEM_TOKENS} tokens in common"
    return [
        Figure(f"{label}: CPU seconds without reuse", _median_cpu([wave[0] for wave in waves]), COMMAND),
        Figure(f"{label}: CPU seconds with reuse", _median_cpu([wave[1] for wave in waves]), COMMAND),
        _at_most(f"{label}: CPU with reuse ÷ without", cpu, MOST_CPU_SHARE),
        _at_most(f"{label}: TTFT of a second wave ÷ the first", same, MOST_TTFT_SHARE),
        Figure(f"{label}: TTFT of a wave with other ends ÷ the first", round(others, 3), COMMAND),
    ]


async def _waves(
    apart: Worker, together: Worker, started: Servers, random: Random
) -> tuple[Run, Run, Run, Run]:
    """For tenants apart, first wave, second wave, wave with other ends."""
    warm_up = _questions(random, "")
    for worker in (apart, together):
        await ask_at_once(worker, warm_up)
    system = letters(random, SYSTEM_TOKENS)
    ends = _questions(random, system)
    owned = [Question(one.prompt, one.tokens, f"tenant-{index}") for index, one in enumerate(ends)]
    waves = (
        await ask_at_once(apart, owned),
        await ask_at_once(together, ends),
        await ask_at_once(together, ends),
        await ask_at_once(together, _questions(random, system)),
    )
    await started.close()
    return waves


def _questions(random: Random, system: str) -> list[Question]:
    return [Question(system + letters(random, OWN_TOKENS), ANSWER_TOKENS) for _ in range(REQUESTS)]


def _ttft(run: Run) -> float:
    return statistics.median(one.first_s for one in run.arrivals)


def _median_cpu(runs: Sequence[Run]) -> float:
    return round(statistics.median(run.cpu_s for run in runs), 2)


def _at_most(text: str, value: float, most: float) -> Figure:
    return Figure(text, round(value, 3), COMMAND, f"<= {most:g}", value <= most)
