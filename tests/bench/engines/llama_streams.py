"""Tokens for each CPU second of a server: the worker, llama-server, llama_cpp.server, llama-bench.

Every round visits every server at every number of streams with the same prompts, so that all are
measured under the same noise. A ratio is the median over the rounds of what one round gave.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from tests.bench.engines.llama_build import programs
from tests.bench.engines.llama_files import peer_environment, random_model
from tests.bench.engines.llama_servers import (
    Peer,
    Question,
    Run,
    Server,
    Servers,
    Setup,
    Worker,
    ask_at_once,
    letters,
    servers,
)
from tests.bench.report import Figure
from tests.support.processes import TINY_CHAT

COMMAND = "python -m tests.bench.engines.llama"
STREAMS = (1, 4, 8, 16)
PROMPT_TOKENS, ANSWER_TOKENS = 48, 48
LONE_TOKENS = 128
TINY_WAVES = 16
"""CPU time is told in steps of 10 ms, and tiny-chat answers a wave in a few of them."""

WORKER, WORKER_FLASH = "worker", "worker with flash attention"
LLAMA_SERVER, LLAMA_SERVER_PLAIN = "llama-server", "llama-server without flash attention"
PACKAGE_SERVER = "llama_cpp.server"

LEAST_OF_LLAMA_SERVER = 0.95
LEAST_OF_PACKAGE_SERVER = 3.0
LEAST_OF_LLAMA_BENCH = 0.95


@dataclasses.dataclass(frozen=True)
class Scene:
    """The servers of one model. waves: of questions in one sample."""

    name: str
    waves: int
    setup: Setup
    worker: Worker
    servers: Mapping[str, Server]
    package: Peer | None


@dataclasses.dataclass(frozen=True)
class Sample:
    """One run of one server."""

    per_cpu_s: float
    per_s: float


Samples = dict[tuple[str, int], list[Sample]]
Rates = tuple[float, float, float]
"""Tokens/s of one stream, of llama-bench with as many threads, and with the better number of them."""


def measure(rounds: int) -> list[Figure]:
    """All models, one after the other."""
    python = peer_environment()
    tiny = Setup(TINY_CHAT, threads=1, endless=True)
    return [
        *_of_model("127M Q8_0", Setup(random_model("Q8_0"), threads=2), rounds, python),
        *_of_model("127M Q4_0", Setup(random_model("Q4_0"), threads=2), rounds, python),
        *_of_model("tiny-chat", tiny, rounds, None, TINY_WAVES),
    ]


def _of_model(name: str, setup: Setup, rounds: int, python: Path | None, waves: int = 1) -> list[Figure]:
    with servers() as started:
        worker = started.worker(setup)
        asked: dict[str, Server] = {
            WORKER: worker,
            WORKER_FLASH: started.worker(setup, "--flash-attention", "on"),
            LLAMA_SERVER: started.llama_server(programs(), setup),
            LLAMA_SERVER_PLAIN: started.llama_server(programs(), setup, "--flash-attn", "off"),
        }
        package = None if python is None else started.llama_cpp_server(python, setup)
        scene = Scene(name, waves, setup, worker, asked, package)
        samples, alone = asyncio.run(_sampled(scene, started, rounds))
    return [*_stream_figures(scene, samples), *_alone_figures(scene, alone)]


async def _sampled(scene: Scene, started: Servers, rounds: int) -> tuple[Samples, list[Rates]]:
    """The samples by server and streams; of one stream and llama-bench tokens/s, by rounds."""
    random = Random(1)
    samples: Samples = {}
    alone: list[Rates] = []
    for number in range(-1, rounds):
        for streams in STREAMS:
            runs = await _round(scene, streams, random)
            for name, run in runs.items() if number >= 0 else ():
                sample = Sample(run.tokens / run.cpu_s, run.tokens / run.seconds)
                samples.setdefault((name, streams), []).append(sample)
        lone = await _lone_rate(scene.worker, random)
        same = await asyncio.to_thread(_bench_rate, scene.setup, scene.setup.threads)
        rates = (lone, same, max(same, await asyncio.to_thread(_bench_rate, scene.setup, 1)))
        if number >= 0:
            alone.append(rates)
        print(f"{scene.name}: round {number + 1} of {rounds}", flush=True)
    await started.close()
    return samples, alone


async def _round(scene: Scene, streams: int, random: Random) -> Mapping[str, Run]:
    waves = [
        [Question(letters(random, PROMPT_TOKENS), ANSWER_TOKENS) for _ in range(streams)]
        for _ in range(scene.waves)
    ]
    asked = dict(scene.servers)
    if scene.package is not None and streams == 8:
        asked[PACKAGE_SERVER] = scene.package
    return {name: await _waves(server, waves) for name, server in asked.items()}


async def _waves(server: Server, waves: Sequence[Sequence[Question]]) -> Run:
    """All waves, one after the other, as one run."""
    runs = [await ask_at_once(server, questions) for questions in waves]
    arrivals = [each for run in runs for each in run.arrivals]
    return Run(arrivals, sum(run.seconds for run in runs), sum(run.cpu_s for run in runs))


async def _lone_rate(worker: Worker, random: Random) -> float:
    """Tokens/s of one stream, from its first token to its last."""
    arrivals = await worker.answer(Question(letters(random, 8), LONE_TOKENS))
    return (arrivals.tokens - arrivals.counts[0]) / (arrivals.at_s[-1] - arrivals.at_s[0])


def _bench_rate(setup: Setup, threads: int) -> float:
    """Tokens/s of llama-bench when it decodes."""
    command = [str(programs() / "llama-bench"), "--model", str(setup.model), "--output", "json"]
    command += ["--threads", str(threads), "-p", "0", "-n", str(LONE_TOKENS), "-r", "1"]
    done = subprocess.run(command, env={**os.environ, **setup.waiting}, capture_output=True, check=True)
    return float(json.loads(done.stdout)[0]["avg_ts"])


def _stream_figures(scene: Scene, samples: Samples) -> list[Figure]:
    figures = []
    for (server, streams), found in samples.items():
        per_cpu_s, per_s = (
            statistics.median(one.per_cpu_s for one in found),
            statistics.median(one.per_s for one in found),
        )
        label = f"{scene.name}, {streams} streams, {server}"
        figures.append(Figure(f"{label}: tokens per CPU second", round(per_cpu_s, 1), COMMAND))
        figures.append(Figure(f"{label}: tokens/s", round(per_s, 1), COMMAND))
    text = f"{scene.name}: tokens per CPU second, 1 to 16 streams, worker ÷ llama-server"
    for ending, ours, theirs in (
        ("", WORKER, LLAMA_SERVER),
        (", neither with flash attention", WORKER, LLAMA_SERVER_PLAIN),
        (", both with flash attention", WORKER_FLASH, LLAMA_SERVER),
    ):
        mean = statistics.geometric_mean(_ratio(samples, ours, theirs, streams) for streams in STREAMS)
        figures.append(_at_least(text + ending, mean, LEAST_OF_LLAMA_SERVER))
    if scene.package is not None:
        ratio = _ratio(samples, WORKER, PACKAGE_SERVER, 8)
        text = f"{scene.name}: tokens per CPU second, 8 streams, worker ÷ llama_cpp.server"
        figures.append(_at_least(text, ratio, LEAST_OF_PACKAGE_SERVER))
    return figures


def _alone_figures(scene: Scene, alone: Sequence[Rates]) -> list[Figure]:
    ours, same, best = (statistics.median(rates) for rates in zip(*alone, strict=True))
    text = f"{scene.name}: tokens/s of one stream, worker ÷ llama-bench"
    return [
        Figure(f"{scene.name}, 1 stream, worker: tokens/s", round(ours, 1), COMMAND),
        Figure(f"{scene.name}, llama-bench: tokens/s", round(same, 1), COMMAND),
        Figure(f"{scene.name}, llama-bench with the better number of threads", round(best, 1), COMMAND),
        _at_least(text, statistics.median(one / same for one, same, _ in alone), LEAST_OF_LLAMA_BENCH),
        _at_least(
            f"{text} with the better number of threads",
            statistics.median(one / best for one, _, best in alone),
            LEAST_OF_LLAMA_BENCH,
        ),
    ]


def _ratio(samples: Samples, ours: str, theirs: str, streams: int) -> float:
    """Tokens per CPU second of one server against another's, the median over the rounds."""
    pairs = zip(samples[ours, streams], samples[theirs, streams], strict=True)
    return statistics.median(one.per_cpu_s / other.per_cpu_s for one, other in pairs)


def _at_least(text: str, value: float, least: float) -> Figure:
    return Figure(text, round(value, 3), COMMAND, f">= {least:g}", value >= least)
