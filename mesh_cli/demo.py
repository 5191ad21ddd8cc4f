"""The demonstration: a mesh of the embedded models, asked by REST and by gRPC, and stopped.

`mesh demo` runs it. It uses its own folder and free ports, so it runs
beside any other mesh; every answer is checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mesh_cli.commands.prepare import prepare
from mesh_cli.errors import FailedError
from mesh_cli.mesh_file import default_text, parse_mesh
from mesh_cli.mesh_table import LinesView, output_console
from mesh_cli.plan import plan_mesh
from mesh_cli.ports import free_port
from mesh_cli.process_identity import is_same_process
from mesh_cli.restart_policy import RestartPolicy
from mesh_cli.state import MeshState, StateFolder, Status
from mesh_cli.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from inference_mesh.client import MeshClient
    from mesh_cli.demo_questions import Question, Way

START_LIMIT_S = 120.0
GRACE_S = 5.0
POLL_S = 0.02
ROUTE_LIMIT_S = 5.0


@dataclasses.dataclass
class DemoScore:
    """What was seen. started: seconds since 1970; asked_at: when the caller began, if told."""

    started: float
    asked_at: float | None
    right: int = 0
    wrong: int = 0
    processes: MeshState | None = None


def run_demo(asked_at: float | None) -> None:
    """Run it. asked_at: when the caller began, seconds since 1970.

    Raises FailedError if an answer is wrong, or if a process is left at the end.
    """
    score = DemoScore(time.time(), asked_at)
    prepare()
    with tempfile.TemporaryDirectory(prefix="mesh-demo-") as name:
        try:
            asyncio.run(_demonstrate(_supervisor(StateFolder(Path(name))), score))
        except* FailedError as errors:
            raise FailedError("; ".join(str(error) for error in errors.exceptions)) from None
    processes = score.processes.services if score.processes else ()
    left = [one.name for one in processes if is_same_process(one.pid, one.start_mark)]
    if left:
        raise FailedError(f"still running after the stop: {', '.join(left)}")
    seconds = time.time() - score.started
    print(f"stopped: none of {len(processes)} processes is left; {seconds:.1f} s in all")
    if score.wrong:
        raise FailedError(f"{score.wrong} of {score.wrong + score.right} answers were wrong")


def _supervisor(folder: StateFolder) -> Supervisor:
    folder.create()
    models = parse_mesh(default_text()).models
    grpc_port = free_port()
    http_port = free_port((grpc_port,))
    plan = plan_mesh(models, folder.path, folder, grpc_port=grpc_port, http_port=http_port, grace_s=GRACE_S)
    view = LinesView(output_console())
    return Supervisor(
        plan, folder, config="demo", policy=RestartPolicy(), grace_s=GRACE_S, on_change=view.show
    )


async def _demonstrate(supervisor: Supervisor, score: DemoScore) -> None:
    """Run the mesh for as long as it takes to ask everything."""
    stopping, killing = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(supervisor.run(stopping, killing))
        try:
            await _wait_for(
                supervisor, lambda state: all(one.pid or one.is_settled for one in state.services)
            )
            await _ask_all(supervisor, score)
        finally:
            score.processes = supervisor.state
            print("\nstopping …", flush=True)
            stopping.set()
            # In order, also after a wrong answer or Ctrl-C: the group would cancel it.
            await asyncio.wait({running})


async def _ask_all(supervisor: Supervisor, score: DemoScore) -> None:
    """Ask every question in both ways, each as soon as its model is there."""
    # While the processes start: these imports take as long as theirs.
    from inference_mesh.client import MeshClient
    from mesh_cli.demo_questions import QUESTIONS, GrpcWay, RestWay

    await _wait_for(supervisor, lambda state: {"gateway", "bridge"} <= _ready_names(state))
    state = supervisor.state
    print(f"\ngateway gRPC {state.target}, REST {state.url}\n", flush=True)
    async with MeshClient(state.target) as mesh, RestWay(state.url) as rest:
        waiting = list(QUESTIONS)
        while waiting:
            await _wait_for(supervisor, lambda state: _next_question(waiting, state) is not None)
            question = _next_question(waiting, supervisor.state) or waiting[0]
            waiting.remove(question)
            await until_routed(mesh, question.model)
            for way in (rest, GrpcWay(mesh)):
                await _ask(question, way, score)


async def until_routed(mesh: MeshClient, model: str) -> None:
    """Wait until the gateway has found the model's worker, which it tries to reach once a second.

    A model that failed is never found; asking it then tells why.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ROUTE_LIMIT_S):
            while not (await mesh.model(model)).ready:
                await asyncio.sleep(POLL_S)


async def _wait_for(supervisor: Supervisor, is_wanted: Callable[[MeshState], bool]) -> None:
    """Returns once the mesh is as wanted. Raises FailedError if it takes too long."""
    deadline = time.monotonic() + START_LIMIT_S
    while not is_wanted(supervisor.state):
        if time.monotonic() > deadline:
            raise FailedError(f"the mesh was not ready within {START_LIMIT_S:.0f} s")
        await asyncio.sleep(POLL_S)


def _ready_names(state: MeshState) -> set[str]:
    return {one.name for one in state.services if one.status is Status.READY}


def _next_question(waiting: list[Question], state: MeshState) -> Question | None:
    """The first question whose model is ready, or has failed: then asking tells why."""
    settled = {one.model for one in state.services if one.kind == "worker" and one.is_settled}
    return next((question for question in waiting if question.model in settled), None)


async def _ask(question: Question, way: Way, score: DemoScore) -> None:
    verdict = await way.judged(question)
    score.right += verdict.is_right
    score.wrong += not verdict.is_right
    mark = "ok   " if verdict.is_right else "WRONG"
    milliseconds = verdict.seconds * 1000
    print(f"{mark} {question.model:<10} {way.name:<5} {milliseconds:7.1f} ms  {verdict.shown}", flush=True)
    if score.right == 1 and verdict.is_right:
        now = time.time()
        print(f"time from start to first answer: {now - score.started:.2f} s", flush=True)
        if score.asked_at is not None:
            print(f"from make demo to the first answer: {now - score.asked_at:.1f} s", flush=True)
