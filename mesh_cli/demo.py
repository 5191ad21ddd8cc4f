"""The demonstration: a mesh of the embedded models, asked by REST and by gRPC, and stopped.

`mesh demo` or `python -m mesh_cli.demo`. It uses its own folder and free ports, so it runs
beside any other mesh; every answer is checked.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inference_mesh.client import MeshClient
from mesh_cli.child import child_environment
from mesh_cli.commands.prepare import prepare
from mesh_cli.demo_questions import QUESTIONS, GrpcWay, Question, RestWay, WrongAnswerError
from mesh_cli.errors import FailedError
from mesh_cli.mesh_file import default_text
from mesh_cli.ports import free_port
from mesh_cli.process_identity import is_same_process
from mesh_cli.running import stop_mesh
from mesh_cli.state import MeshState, StateFolder, Status

START_LIMIT_S = 120.0
STOP_LIMIT_S = 30.0


def run_demo(asked_at: float | None) -> None:
    """Run it. asked_at: when the caller began, seconds since 1970. Raises FailedError if an answer is wrong."""
    prepare()
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="mesh-demo-") as name:
        folder = StateFolder(Path(name))
        with _running_mesh(folder) as supervisor:
            state = _wait_for_gateway(folder, supervisor)
            print(f"\ngateway gRPC {state.target}, REST {state.url}\n", flush=True)
            wrong = asyncio.run(_ask_all(folder, state, started, asked_at))
            last = folder.read() or state
            print("\nstopping …", flush=True)
            stop_mesh(folder, STOP_LIMIT_S)
            supervisor.wait(STOP_LIMIT_S)
    left = [one.name for one in last.services if is_same_process(one.pid, one.start_mark)]
    if left:
        raise FailedError(f"still running after the stop: {', '.join(left)}")
    print(f"stopped: none of {len(last.services)} processes is left; {time.time() - started:.1f} s in all")
    if wrong:
        raise FailedError(f"{wrong} of {2 * len(QUESTIONS)} answers were wrong")


@contextmanager
def _running_mesh(folder: StateFolder) -> Iterator[subprocess.Popen[bytes]]:
    """A mesh of the embedded models in a process of its own, which does not outlive the block."""
    config = folder.path / "mesh.yaml"
    config.write_text(default_text())
    grpc_port = free_port()
    ports = ["--grpc-port", str(grpc_port), "--http-port", str(free_port((grpc_port,)))]
    up = [sys.executable, "-P", "-m", "mesh_cli.launch", str(os.getpid()), "mesh_cli", "up", "--no-live"]
    supervisor = subprocess.Popen(
        [*up, "--config", str(config), "--state-dir", str(folder.path), *ports],
        env=child_environment(os.environ),
    )
    try:
        yield supervisor
    finally:
        if supervisor.poll() is None:
            supervisor.terminate()
            supervisor.wait(STOP_LIMIT_S)


def _wait_for_gateway(folder: StateFolder, supervisor: subprocess.Popen[bytes]) -> MeshState:
    return _wait_for({"gateway", "bridge"}, folder, supervisor)


def _wait_for(names: set[str], folder: StateFolder, supervisor: subprocess.Popen[bytes]) -> MeshState:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if supervisor.poll() is not None:
            raise FailedError("the mesh did not start")
        state = folder.read()
        if state is not None and names <= {one.name for one in state.services if one.status is Status.READY}:
            return state
        time.sleep(0.02)
    raise FailedError(f"the mesh was not ready within {START_LIMIT_S:.0f} s")


@dataclasses.dataclass
class _Score:
    """What was counted. is_first: no answer has come yet."""

    wrong: int = 0
    is_first: bool = True


async def _ask_all(folder: StateFolder, state: MeshState, started: float, asked_at: float | None) -> int:
    """Ask every question in both ways, as soon as its model is there; the number of wrong answers."""
    score = _Score()
    async with MeshClient(state.target) as mesh, RestWay(state.url) as rest:
        waiting = list(QUESTIONS)
        deadline = time.monotonic() + START_LIMIT_S
        while waiting:
            question = _next_ready(waiting, folder.read() or state)
            if question is None:
                if time.monotonic() > deadline:
                    raise FailedError(
                        f"not ready within {START_LIMIT_S:.0f} s: {', '.join(q.model for q in waiting)}"
                    )
                await asyncio.sleep(0.02)
                continue
            waiting.remove(question)
            for way in (rest, GrpcWay(mesh)):
                await _ask(question, way, score, started, asked_at)
    return score.wrong


def _next_ready(waiting: list[Question], state: MeshState) -> Question | None:
    """The first question whose model is ready, or has failed, so that asking tells why."""
    settled = {one.model for one in state.services if one.kind == "worker" and one.is_settled}
    return next((question for question in waiting if question.model in settled), None)


async def _ask(
    question: Question, way: RestWay | GrpcWay, score: _Score, started: float, asked_at: float | None
) -> None:
    begun = time.perf_counter()
    try:
        answer = await way.ask(question)
        shown, is_right = question.judge(answer.pieces), True
    except WrongAnswerError as error:
        shown, is_right = str(error), False
    seconds = time.perf_counter() - begun
    score.wrong += not is_right
    mark = "ok   " if is_right else "WRONG"
    print(f"{mark} {question.model:<10} {way.name:<5} {seconds * 1000:7.1f} ms  {shown}", flush=True)
    if score.is_first and is_right:
        score.is_first = False
        print(f"time from start to first answer: {time.time() - started:.2f} s", flush=True)
        if asked_at is not None:
            print(f"from make demo to the first answer: {time.time() - asked_at:.1f} s", flush=True)


if __name__ == "__main__":
    from mesh_cli.main import main

    sys.argv[1:1] = ["demo"]
    main()
