"""What the ONNX Runtime worker makes of the CPU: beside the bare runtime, and beside MLServer.

MiniLM, single sentences of 5 to 60 tokens. Every round visits everything that is compared, so that
all of it is measured under the same noise; figures are medians over the rounds of ratios within one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import statistics
import threading
import time
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]

from tests.bench.engines.onnx_corpus import Ids, embed, load_tokenizer, open_graph, sentences, sorted_batches
from tests.bench.engines.onnx_refusals import Refusals, measure_refusals
from tests.bench.engines.onnx_servers import (
    MlServer,
    Server,
    Worker,
    ask,
    connected,
    mlserver_process,
    worker_process,
)
from tests.bench.report import Figure, print_table, write_report
from tests.support.processes import MINILM

COMMAND = "python -m tests.bench.engines.onnx"
CONCURRENCY = 32
THREADS = 2
TOLERANCE = 1e-5
SHARE, RATIO, SLOWER, EXTRA_MS, REFUSAL_MS = 0.88, 0.62, 1.3, 1.0, 1.0


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much is measured. alone: sentences asked one by one."""

    rounds: int
    sentences: int
    alone: int


FULL, QUICK = Effort(rounds=9, sentences=512, alone=128), Effort(rounds=3, sentences=256, alone=48)


@dataclasses.dataclass(frozen=True)
class Round:
    """CPU milliseconds per sentence at 32 at a time, and p50 in ms one by one."""

    offline: float
    worker: float
    mlserver: float
    tuned_mlserver: float
    bare_p50: float
    worker_p50: float


def measure(effort: Effort = FULL) -> list[Figure]:
    """The figures of the ONNX Runtime worker."""
    return asyncio.run(_figures(effort))


async def _figures(effort: Effort) -> list[Figure]:
    tokenizer = load_tokenizer(MINILM)
    texts = sentences(tokenizer, effort.sentences)
    bench = _Bench(texts, [tokenizer.encode(text).ids for text in texts], effort)
    async with contextlib.AsyncExitStack() as stack:
        worker = stack.enter_context(worker_process())
        peers = [stack.enter_context(mlserver_process(threads)) for threads in (0, THREADS)]
        ours = Worker(worker.pid, await stack.enter_async_context(connected(worker.grpc_target)))
        theirs = [MlServer(pid, await stack.enter_async_context(connected(target))) for pid, target in peers]
        servers: list[Server] = [ours, *theirs]
        for server in servers:
            await bench.check_vectors(server)
        rounds = [await bench.round(number, *servers) for number in range(-1, effort.rounds)][1:]
    print("\r".ljust(60), end="\r")
    return [*_ratios(rounds), *_refusal_figures(await measure_refusals(texts))]


class _Bench:
    """What is asked, and the bare session that it is compared with."""

    def __init__(self, texts: Sequence[str], ids: Sequence[Ids], effort: Effort) -> None:
        self._texts = texts
        self._ids = ids
        self._effort = effort
        self._session = open_graph(MINILM / "model.onnx")
        self._tokenizer = load_tokenizer(MINILM)
        self._batches = sorted_batches(ids)

    async def check_vectors(self, server: Server) -> None:
        """Fail unless the server gives the vectors of the bare session."""
        _, vectors = await ask(server, self._texts, CONCURRENCY)
        for tokens, vector in zip(self._ids, vectors, strict=True):
            difference = float(np.abs(embed(self._session, [tokens])[0] - vector).max())
            if not difference < TOLERANCE:
                raise AssertionError(f"a vector differs by {difference:.1e}")

    async def round(self, number: int, ours: Server, theirs: Server, tuned: Server) -> Round:
        """One round; round -1 warms up."""
        print(f"\rround {max(number, 0) + 1}/{self._effort.rounds}".ljust(60), end="", flush=True)
        scale = 1000 / len(self._texts)
        offline = [await asyncio.to_thread(_offline_s, self._session, self._batches)]
        worker_s, _ = await ask(ours, self._texts, CONCURRENCY)
        mlserver_s, _ = await ask(theirs, self._texts, CONCURRENCY)
        tuned_s, _ = await ask(tuned, self._texts, CONCURRENCY)
        offline.append(await asyncio.to_thread(_offline_s, self._session, self._batches))
        bare, over_grpc = [], []
        for text in self._texts[: self._effort.alone]:
            bare.append(self._bare_s(text))
            started = time.perf_counter()
            await ours.embed(text)
            over_grpc.append(time.perf_counter() - started)
        return Round(
            offline=statistics.mean(offline) * scale,
            worker=worker_s * scale,
            mlserver=mlserver_s * scale,
            tuned_mlserver=tuned_s * scale,
            bare_p50=statistics.median(bare) * 1000,
            worker_p50=statistics.median(over_grpc) * 1000,
        )

    def _bare_s(self, text: str) -> float:
        started = time.perf_counter()
        embed(self._session, [self._tokenizer.encode(text).ids])
        return time.perf_counter() - started


def _offline_s(session: ort.InferenceSession, batches: Sequence[Sequence[Ids]]) -> float:
    """CPU seconds of the raw limit: all batches, on as many threads as the worker has runs at a time."""

    def loop(part: Sequence[Sequence[Ids]]) -> None:
        for batch in part:
            embed(session, batch)

    threads = [threading.Thread(target=loop, args=(batches[place::THREADS],)) for place in range(THREADS)]
    before = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.process_time() - before


def _ratios(rounds: Sequence[Round]) -> list[Figure]:
    def median(values: Sequence[float]) -> float:
        return statistics.median(values)

    share = median([one.offline / one.worker for one in rounds])
    ratio = median([one.worker / one.mlserver for one in rounds])
    tuned = median([one.worker / one.tuned_mlserver for one in rounds])
    extra = median([one.worker_p50 - SLOWER * one.bare_p50 for one in rounds])
    return [
        Figure("ONNX: share of the raw limit", share, COMMAND, f">= {SHARE}", share >= SHARE),
        Figure("ONNX: CPU against MLServer", ratio, COMMAND, f"<= {RATIO}", ratio <= RATIO),
        Figure(
            f"ONNX: p50 alone minus {SLOWER} x bare session, ms",
            extra,
            COMMAND,
            f"<= {EXTRA_MS}",
            extra <= EXTRA_MS,
        ),
        Figure("ONNX: CPU against MLServer, tuned beyond its own runtimes", tuned, COMMAND),
        Figure("ONNX: offline loop, CPU ms per sentence", median([one.offline for one in rounds]), COMMAND),
        Figure("ONNX: worker, CPU ms per sentence", median([one.worker for one in rounds]), COMMAND),
        Figure(
            "ONNX: MLServer tuned, CPU ms per sentence",
            median([one.tuned_mlserver for one in rounds]),
            COMMAND,
        ),
        Figure("ONNX: MLServer, CPU ms per sentence", median([one.mlserver for one in rounds]), COMMAND),
        Figure(
            "ONNX: bare session with tokenizing, p50 ms", median([one.bare_p50 for one in rounds]), COMMAND
        ),
        Figure("ONNX: worker alone, p50 ms", median([one.worker_p50 for one in rounds]), COMMAND),
    ]


def _refusal_figures(found: Refusals) -> list[Figure]:
    return [
        Figure(
            "ONNX: refusal of a full queue, CPU ms",
            found.cpu_ms,
            COMMAND,
            f"< {REFUSAL_MS}",
            found.cpu_ms < REFUSAL_MS,
        ),
        Figure("ONNX: share of refusals with a retry hint", found.hinted, COMMAND, "= 1", found.hinted == 1),
    ]


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and sentences")
    figures = measure(QUICK if parser.parse_args().quick else FULL)
    rows = [
        [one.figure, f"{one.value:.3f}", one.target or "", "" if one.target is None else str(one.holds)]
        for one in figures
    ]
    print_table(["figure", "value", "target", "holds"], rows)
    print(f"\n{len(figures)} figures in {write_report('engines_onnx', figures)}; reproduce with: {COMMAND}")


if __name__ == "__main__":
    main()
