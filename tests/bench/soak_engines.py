"""Mixed load on one worker of each engine for a stated time: nothing fails, and memory stays flat.

Texts of random lengths, stop texts, several answers, schemas; one call in twenty is cancelled in the
middle. Memory is judged over the second half of the run: the first half fills caches.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from inference_mesh.client import MeshClient
from inference_mesh.errors import MeshError
from tests.bench.report import print_table, write_report
from tests.bench.soak import CANCEL_EVERY, Outcome, Usage, figures_of, watched
from tests.support.processes import MINILM, TINY_CHAT, MeshProcess, ProcessGroup, process_group

COMMAND = "make soak-engines"
CALLERS = 12
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "and",
    "one",
    "day",
    "it",
    "found",
    "a",
    "warm",
    "hat",
    "in",
    "Rome",
]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]}


def main() -> int:
    """Run, print, write the report; 1 if something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the load lasts")
    minutes: float = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder, process_group(Path(folder)) as group:
        outcome = asyncio.run(soak(_workers(group), minutes * 60))
    figures = figures_of(outcome, COMMAND)
    print_table(
        ["figure", "value", "target", "holds"],
        [[one.figure, f"{one.value:g}", one.target or "-", "yes" if one.holds else "NO"] for one in figures],
    )
    print(f"report: {write_report('soak_engines', figures)}")
    return 0 if all(figure.holds for figure in figures) else 1


async def soak(workers: dict[str, MeshProcess], seconds: float) -> Outcome:
    """Load the workers for so long, and watch them."""
    processes = {name: psutil.Process(worker.pid) for name, worker in workers.items()}
    outcome = Outcome(seconds, 0, 0, [], {name: Usage() for name in processes})
    async with contextlib.AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(MeshClient(worker.grpc_target))
            for name, worker in workers.items()
        }
        await _load(clients, outcome, time.monotonic() + min(5.0, seconds / 4))
        for name, process in processes.items():
            outcome.usage[name].files_before = process.num_fds()
        watching = asyncio.ensure_future(watched(processes, outcome))
        await _load(clients, outcome, time.monotonic() + seconds)
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        for name, process in processes.items():
            outcome.usage[name].files_after = process.num_fds()
    return outcome


def _workers(group: ProcessGroup) -> dict[str, MeshProcess]:
    found = {
        "tiny-chat": group.worker(TINY_CHAT, name="tiny-chat", runtime="llama"),
        "minilm": group.worker(MINILM, name="minilm", runtime="onnx"),
    }
    for worker in found.values():
        worker.wait_until_ready()
    return found


async def _load(clients: dict[str, MeshClient], outcome: Outcome, until_s: float) -> None:
    async def caller(number: int) -> None:
        chosen = random.Random(number)
        while time.monotonic() < until_s:
            model = chosen.choice(sorted(clients))
            payload = _text(chosen) if model == "minilm" else _chat(chosen)
            await _one(clients[model], model, payload, outcome)

    await asyncio.gather(*(caller(number) for number in range(CALLERS)))


async def _one(client: MeshClient, model: str, payload: dict[str, Any], outcome: Outcome) -> None:
    outcome.calls += 1
    limit_s = 0.01 if outcome.calls % CANCEL_EVERY == 0 else None
    try:
        async with asyncio.timeout(limit_s):
            async for _ in client.stream(model, payload):
                pass
    except TimeoutError:
        outcome.cancelled += 1
    except MeshError as error:
        outcome.failures.append(f"{type(error).__name__}: {error}")


def _words(chosen: random.Random, most: int) -> str:
    return " ".join(chosen.choice(WORDS) for _ in range(chosen.randint(1, most)))


def _text(chosen: random.Random) -> dict[str, Any]:
    return {"texts": [_words(chosen, 60) for _ in range(chosen.randint(1, 4))], "truncate": True}


def _chat(chosen: random.Random) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "messages": [{"role": "user", "content": _words(chosen, 80)}],
        "max_tokens": chosen.randint(1, 60),
        "temperature": chosen.choice([0, 0.8]),
        "seed": chosen.randint(0, 1000),
    }
    kind = chosen.randrange(8)
    if kind == 0:
        payload["stop"] = ["the", "."]
    elif kind == 1:
        payload["n"] = 3
    elif kind == 2:
        payload["json_schema"] = SCHEMA
    elif kind == 3:
        payload["top_logprobs"] = 3
    return payload


if __name__ == "__main__":
    sys.exit(main())
