"""The situations of the matrix: who asks what, what stands in the way, and how it must be told."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from tests.integration.parity.engine import BAD, WAIT
from tests.integration.parity.faces import Question, native_infer, until_waiting
from tests.integration.parity.mesh import ParityMesh

Scene = Callable[[ParityMesh], AbstractAsyncContextManager[None]]


@dataclasses.dataclass(frozen=True)
class Situation:
    """What happens, and what each protocol tells of it.

    question: by the keys of the mesh. scene: what is set up around the call. code: of gRPC.
    status: of HTTP. has_hint: it is told when to come back. leaves: the caller does, once the worker
    has the call. midway: what happens while it runs. may_end_at_bridge: a dialect may refuse it
    before the gateway hears of it. counted: a counter that this situation alone
    moves, by one, with labels of it.
    """

    name: str
    question: Callable[[ParityMesh], Question]
    code: str
    status: int
    scene: Scene = dataclasses.field(default=lambda _: contextlib.nullcontext())
    has_hint: bool = False
    leaves: bool = False
    midway: Callable[[ParityMesh], Awaitable[None]] | None = None
    may_end_at_bridge: bool = False
    counted: str = ""


def _good(mesh: ParityMesh) -> Question:
    return Question(key=mesh.keys["good"])


def _fast(mesh: ParityMesh) -> Question:
    return Question(key=mesh.keys["fast"])


def _poor(mesh: ParityMesh) -> Question:
    return Question(key=mesh.keys["poor"])


@contextlib.asynccontextmanager
async def _spent(mesh: ParityMesh, tenant: str) -> AsyncIterator[None]:
    """The tenant's limit is used up."""
    question = Question(key=mesh.keys[tenant])
    for _ in range(40):
        if (await native_infer(mesh.doors, question)).code == "RESOURCE_EXHAUSTED":
            break
    yield


@contextlib.asynccontextmanager
async def _full(mesh: ParityMesh, waiting_as: str) -> AsyncIterator[None]:
    """The model "busy" has one call that runs and one that waits."""
    engine = mesh.engines["busy"]
    engine.released.clear()
    running = asyncio.ensure_future(native_infer(mesh.doors, Question("busy", WAIT, mesh.keys["good"])))
    await until_waiting(running, lambda: engine.running == 1)
    queued = asyncio.ensure_future(native_infer(mesh.doors, Question("busy", "hello", mesh.keys[waiting_as])))
    await until_waiting(queued, lambda: mesh.running.metric("mesh_gateway_in_flight", model="busy") == 2)
    try:
        yield
    finally:
        engine.released.set()
        await asyncio.gather(running, queued)


async def _until_displaced(mesh: ParityMesh) -> None:
    """The model goes on once the waiting call of bulk has lost its place."""
    async with asyncio.timeout(10):
        while not mesh.running.metric("mesh_gateway_queue_depth", model="busy", priority="normal"):
            await asyncio.sleep(0.005)
    mesh.engines["busy"].released.set()


SITUATIONS = (
    Situation("success", _good, "OK", 200),
    Situation("no key", lambda _: Question(), "UNAUTHENTICATED", 401),
    Situation("wrong key", lambda _: Question(key="mesh_aaaaaaaa_wrong"), "UNAUTHENTICATED", 401),
    Situation(
        "model not allowed",
        lambda mesh: dataclasses.replace(_good(mesh), model="secret"),
        "NOT_FOUND",
        404,
    ),
    Situation(
        "rate limit",
        _fast,
        "RESOURCE_EXHAUSTED",
        429,
        scene=lambda mesh: _spent(mesh, "fast"),
        has_hint=True,
        counted="mesh_gateway_limit_refusals_total kind=requests scope=tenant",
    ),
    Situation(
        "token budget",
        _poor,
        "RESOURCE_EXHAUSTED",
        429,
        scene=lambda mesh: _spent(mesh, "poor"),
        has_hint=True,
        counted="mesh_gateway_limit_refusals_total kind=tokens scope=tenant",
    ),
    Situation(
        "queue full",
        lambda mesh: dataclasses.replace(_good(mesh), model="busy"),
        "RESOURCE_EXHAUSTED",
        429,
        scene=lambda mesh: _full(mesh, "good"),
        has_hint=True,
        counted="mesh_gateway_queue_refusals_total model=busy priority=normal reason=queue_full",
    ),
    Situation(
        "priority: bulk behind a full queue of bulk",
        lambda mesh: Question("busy", key=mesh.keys["bulk"]),
        "RESOURCE_EXHAUSTED",
        429,
        scene=lambda mesh: _full(mesh, "bulk"),
        has_hint=True,
        counted="mesh_gateway_queue_refusals_total model=busy priority=bulk reason=queue_full",
    ),
    Situation(
        "priority: normal displaces bulk",
        lambda mesh: dataclasses.replace(_good(mesh), model="busy"),
        "OK",
        200,
        scene=lambda mesh: _full(mesh, "bulk"),
        midway=_until_displaced,
        counted="mesh_gateway_queue_refusals_total model=busy priority=bulk reason=displaced",
    ),
    Situation(
        "deadline",
        lambda mesh: Question("chat", WAIT, mesh.keys["good"], timeout_s=0.15),
        "DEADLINE_EXCEEDED",
        504,
    ),
    Situation(
        "cancel", lambda mesh: Question("chat", WAIT, mesh.keys["good"]), "CANCELLED", 499, leaves=True
    ),
    Situation(
        "unknown model", lambda mesh: dataclasses.replace(_good(mesh), model="nobody"), "NOT_FOUND", 404
    ),
    Situation("bad payload", lambda mesh: Question("chat", BAD, mesh.keys["good"]), "INVALID_ARGUMENT", 400),
    Situation(
        "bad number",
        lambda mesh: dataclasses.replace(_good(mesh), temperature=99),
        "INVALID_ARGUMENT",
        400,
        may_end_at_bridge=True,
    ),
    Situation(
        "worker down",
        lambda mesh: dataclasses.replace(_good(mesh), model="down"),
        "UNAVAILABLE",
        503,
        has_hint=True,
    ),
    Situation("canary", lambda mesh: dataclasses.replace(_good(mesh), model="canary"), "OK", 200),
)

_QUEUE = "a stream of requests holds no place in a model's queue (docs/policy.md)"
LEFT_OUT: dict[tuple[str, str], str] = {
    (face, situation): _QUEUE
    for face in ("grpc-oip-stream", "grpc-oip-stream-by-status")
    for situation in (
        "queue full",
        "priority: bulk behind a full queue of bulk",
        "priority: normal displaces bulk",
    )
}
"""Cells, by protocol and situation, that cannot be, and why."""
IN_BAND_CELLS = frozenset({("grpc-oip-stream", "bad payload"), ("grpc-oip-stream", "bad number")})
"""Where an error of one request is a message of its stream, which goes on and ends well."""
