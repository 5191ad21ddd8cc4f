"""`mesh top` beside a real mesh: what it shows is what was called, and a dead worker does not end it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from inference_mesh.client import MeshClient
from tests.support.processes import IRIS, REPOSITORY, TINY_CHAT, MeshProcess, ProcessGroup, write_models_file

SETOSA = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}
INTERVAL_S = 0.5
LINES_LIMIT = 60
CALLS = 5


def _next_report(output: IO[str], is_wanted: Callable[[Any], bool]) -> Any:
    """The first report that is wanted; fails when none of many is."""
    for _ in range(LINES_LIMIT):
        report = json.loads(output.readline())
        if is_wanted(report):
            return report
    raise AssertionError(f"the last of {LINES_LIMIT} reports is {report}")


def _row(report: Any, model: str) -> Any:
    return next(row for row in report["rows"] if row["model"] == model)


async def _call(target: str) -> None:
    async with MeshClient(target) as client:
        for _ in range(CALLS):
            await client.infer("iris", SETOSA)
        await client.infer("tiny-chat", {"prompt": "Once", "max_tokens": 8})


@contextmanager
def _top(*processes: MeshProcess) -> Iterator[subprocess.Popen[str]]:
    """`mesh top` in a pipe until the end of a block, at most."""
    addresses = [word for one in processes for word in ("--metrics", f"{one.url}/metrics")]
    command = [sys.executable, "-m", "mesh_cli", "top", "--json", "--interval", str(INTERVAL_S), *addresses]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as top:
        try:
            yield top
        finally:
            top.kill()


def test_calls_are_shown_while_they_run_and_a_dead_worker_is_named(
    group: ProcessGroup, tmp_path: Path
) -> None:
    iris = group.worker(IRIS, name="iris", runtime="onnx")
    chat = group.worker(TINY_CHAT, name="tiny-chat", runtime="llama")
    for worker in (iris, chat):
        worker.wait_until_ready()
    gateway = group.gateway(
        write_models_file(tmp_path / "models.yaml", {"iris": [iris], "tiny-chat": [chat]})
    )
    gateway.wait_until_ready()
    with _top(gateway, iris, chat) as top:
        assert top.stdout is not None
        idle = _next_report(top.stdout, lambda report: all(row["ready"] for row in report["rows"]))
        assert [row["model"] for row in idle["rows"]] == ["iris", "tiny-chat"]
        assert [row["requests_per_s"] for row in idle["rows"]] == [0, 0]
        asyncio.run(_call(gateway.grpc_target))
        busy = _next_report(top.stdout, lambda report: _row(report, "tiny-chat")["requests_per_s"])
        told = _row(busy, "tiny-chat")
        assert told["errors_per_s"] == 0
        assert 0 < told["first_token_p50_s"] <= told["p99_s"]
        assert 0 < told["completion_tokens_per_s"] <= 8 / INTERVAL_S * 1.5
        iris.signal(signal.SIGKILL)
        lost = _next_report(top.stdout, lambda report: not report["processes"][1]["reachable"])
        assert lost["processes"][1]["problem"] == "no connection"
        assert [one["reachable"] for one in lost["processes"]] == [True, False, True]
        top.send_signal(signal.SIGINT)
        assert top.wait(10) == 0
