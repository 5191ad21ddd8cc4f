"""One load from its beginning to its figures: who is asked, by which dialect, with what on the screen."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import time
from collections.abc import Iterator
from typing import Any, Protocol

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from inference_mesh import json_payload
from inference_mesh.client import MeshClient
from inference_mesh.v1 import inference_pb2, payload_pb2
from mesh_cli.errors import FailedError, UsageError
from mesh_cli.load.choices import Dialect, Kind
from mesh_cli.load.dialects.native import NativeLoad, OpenInferenceLoad
from mesh_cli.load.dialects.rest import Form, InferForm, OpenaiForm, OpenInferenceForm, RestLoad
from mesh_cli.load.figures import Figures, figures_of
from mesh_cli.load.generator import Generator, LoadShape
from mesh_cli.load.questions import Payload, Texts, payloads
from mesh_cli.target import Access

SCREEN_INTERVAL_S = 0.2


FORMS: dict[Dialect, Form] = {
    Dialect.INFER: InferForm(),
    Dialect.OPENAI: OpenaiForm(),
    Dialect.OIP_REST: OpenInferenceForm(),
}
STREAMED = frozenset({Dialect.NATIVE, Dialect.INFER, Dialect.OPENAI})


@dataclasses.dataclass(frozen=True, slots=True)
class LoadOrder:
    """What `mesh bench` is told.

    url: of the REST dialects. task: of the model, where the server cannot be asked for it; None = ask.
    payload: what each call sends, None = made here.
    """

    model: str
    dialect: Dialect
    shape: LoadShape
    texts: Texts
    max_tokens: int
    is_stream: bool
    timeout_s: float
    url: str
    task: payload_pb2.Task | None = None
    payload: Payload | None = None


def task_of(kind: Kind) -> payload_pb2.Task:
    """The task of what an option says."""
    return json_payload.TASK_NAMES[kind]


class _Caller(Protocol):
    async def ask(self, note_first: Any) -> Any: ...

    async def close(self) -> None: ...


async def run_load(order: LoadOrder, access: Access, console: Console) -> Figures:
    """The figures of the load; of what was done so far, if a signal ends it early.

    Raises UsageError if the dialect cannot ask such a model, MeshError if the model is not known.
    """
    async with access.client(order.timeout_s) as client:
        model = await _described(order, client)
        _check(order, model)
        questions = payloads(model, order.texts, order.max_tokens, order.payload)
        caller = _caller(order, access, client, model, questions)
        try:
            generator = Generator(order.shape, caller.ask)
            await _until_signal(generator, order.shape, console)
        finally:
            await caller.close()
    if not generator.outcomes:
        raise FailedError("no call ended before the load was stopped")
    return figures_of(generator.outcomes)


async def _described(order: LoadOrder, client: MeshClient) -> inference_pb2.Model:
    """The model as the mesh describes it, or as the options do."""
    if order.task is not None:
        return inference_pb2.Model(name=order.model, task=order.task)
    return await client.model(order.model)


def _check(order: LoadOrder, model: inference_pb2.Model) -> None:
    if order.is_stream and order.dialect not in STREAMED:
        raise UsageError(
            f"--dialect {order.dialect} has no stream here; allowed: {', '.join(sorted(STREAMED))}"
        )
    if order.is_stream and model.task != payload_pb2.TASK_GENERATE:
        raise UsageError("--stream is for models that generate text")


def _caller(
    order: LoadOrder,
    access: Access,
    client: MeshClient,
    model: inference_pb2.Model,
    questions: Iterator[Payload],
) -> _Caller:
    if order.dialect is Dialect.NATIVE:
        return NativeLoad(client, model, questions, is_stream=order.is_stream)
    if order.dialect is Dialect.OIP:
        return OpenInferenceLoad(access, model, questions, order.timeout_s)
    headers = {"authorization": f"Bearer {access.api_key}"} if access.api_key else {}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    http = httpx.AsyncClient(
        base_url=order.url, headers=headers, timeout=order.timeout_s, limits=limits, trust_env=False
    )
    return RestLoad(http, model.name, questions, FORMS[order.dialect], is_stream=order.is_stream)


async def _until_signal(generator: Generator, shape: LoadShape, console: Console) -> None:
    """Run to the end, or until a signal; a second one ends the program."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in one
    stopped = False

    def stop(number: int) -> None:
        nonlocal stopped
        stopped = True
        loop.remove_signal_handler(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        async with asyncio.TaskGroup() as tasks:
            screen = tasks.create_task(_show(generator, shape, console))
            await generator.run()
            screen.cancel()
    except asyncio.CancelledError:
        if not stopped:
            raise
        task.uncancel()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _show(generator: Generator, shape: LoadShape, console: Console) -> None:
    """A bar that fills as calls end, or as time passes."""
    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=1.0)
        started = time.monotonic()
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                _update(progress, bar, generator, shape, time.monotonic() - started)
                await asyncio.sleep(SCREEN_INTERVAL_S)


def _update(progress: Progress, bar: TaskID, generator: Generator, shape: LoadShape, seconds: float) -> None:
    ended = len(generator.outcomes)
    failed = sum(bool(outcome.error) for outcome in generator.outcomes)
    by_count = ended / shape.requests if shape.requests else 0.0
    by_time = seconds / shape.duration_s if shape.duration_s else 0.0
    text = f"{ended} calls, {ended / max(seconds, 0.001):.1f}/s, {failed} failed"
    progress.update(bar, completed=max(by_count, by_time), description=text)
