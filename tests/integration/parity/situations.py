"""The situations of the matrix: who asks what, what stands in the way, and how it must be told."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from tests.integration.parity.engine import BAD, WAIT, WAIT_AMID
from tests.integration.parity.faces import Question, native_infer, until_waiting
from tests.integration.parity.mesh import CANARY_TENANTS, ParityMesh

Scene = Callable[[ParityMesh], AbstractAsyncContextManager[None]]


@dataclasses.dataclass(frozen=True)
class Told:
    """An outcome in every protocol's words.

    code: of gRPC. status: of HTTP. reason: of google.rpc.ErrorInfo. openai: type and code of an
    error. anthropic: type of one. has_hint: it is told when to come back.
    """

    code: str
    status: int
    reason: str = ""
    openai: str = ""
    anthropic: str = ""
    has_hint: bool = False


_OPENAI_WRONG = "invalid_request_error"
_OPENAI_LIMIT = "requests rate_limit_exceeded"

ANSWERED = Told("OK", 200)
UNKNOWN_CALLER = Told(
    "UNAUTHENTICATED",
    401,
    "UNAUTHENTICATED",
    f"{_OPENAI_WRONG} invalid_api_key",
    "authentication_error",
)
FORBIDDEN = Told("PERMISSION_DENIED", 403, "FORBIDDEN", f"{_OPENAI_WRONG} forbidden", "permission_error")
NOT_FOUND = Told("NOT_FOUND", 404, "MODEL_NOT_FOUND", f"{_OPENAI_WRONG} model_not_found", "not_found_error")
RATE_LIMITED = Told("RESOURCE_EXHAUSTED", 429, "RATE_LIMITED", _OPENAI_LIMIT, "rate_limit_error", True)
BUDGET_SPENT = Told(
    "RESOURCE_EXHAUSTED",
    429,
    "TOKEN_BUDGET_SPENT",
    "tokens rate_limit_exceeded",
    "rate_limit_error",
    True,
)
OVERLOADED = Told("RESOURCE_EXHAUSTED", 429, "OVERLOADED", _OPENAI_LIMIT, "rate_limit_error", True)
TOO_LATE = Told(
    "DEADLINE_EXCEEDED", 504, "DEADLINE_EXCEEDED", "server_error deadline_exceeded", "timeout_error"
)
LEFT = Told("CANCELLED", 499)
INVALID = Told(
    "INVALID_ARGUMENT", 400, "INVALID_INPUT", f"{_OPENAI_WRONG} invalid_input", "invalid_request_error"
)
NOBODY_THERE = Told("UNAVAILABLE", 503, "UNAVAILABLE", "server_error unavailable", "overloaded_error", True)


@dataclasses.dataclass(frozen=True)
class Situation:
    """What happens, and what each protocol tells of it.

    question: by the keys of the mesh. scene: what is set up around the call. leaves: the caller
    does, once the worker has the call. midway: what happens while it runs. may_end_at_bridge: a
    dialect may refuse it before the gateway hears of it. counted: a counter that this situation
    alone moves, by one, with labels of it. uneven: a metric that may differ between protocols.
    """

    name: str
    question: Callable[[ParityMesh], Question]
    told: Told
    scene: Scene = dataclasses.field(default=lambda _: contextlib.nullcontext())
    leaves: bool = False
    midway: Callable[[ParityMesh], Awaitable[None]] | None = None
    may_end_at_bridge: bool = False
    counted: str = ""
    uneven: str = ""


def _good(mesh: ParityMesh) -> Question:
    return Question(key=mesh.keys["good"])


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


def _asked_as(tenant: str, **fields: Any) -> Callable[[ParityMesh], Question]:
    return lambda mesh: Question(key=mesh.keys[tenant], **fields)


SITUATIONS = (
    Situation("success", _good, ANSWERED),
    Situation("no key", lambda _: Question(), UNKNOWN_CALLER),
    Situation("wrong key", lambda _: Question(key="mesh_aaaaaaaa_wrong"), UNKNOWN_CALLER),
    Situation("key without the scope", _asked_as("unscoped"), FORBIDDEN),
    Situation("model not allowed", _asked_as("good", model="secret"), NOT_FOUND),
    Situation("unknown model", _asked_as("good", model="nobody"), NOT_FOUND),
    Situation(
        "rate limit",
        _asked_as("fast"),
        RATE_LIMITED,
        scene=lambda mesh: _spent(mesh, "fast"),
        counted="mesh_gateway_limit_refusals_total kind=requests scope=tenant",
    ),
    Situation(
        "token budget",
        _asked_as("poor"),
        BUDGET_SPENT,
        scene=lambda mesh: _spent(mesh, "poor"),
        counted="mesh_gateway_limit_refusals_total kind=tokens scope=tenant",
    ),
    Situation(
        "queue full",
        _asked_as("good", model="busy"),
        OVERLOADED,
        scene=lambda mesh: _full(mesh, "good"),
        counted="mesh_gateway_queue_refusals_total model=busy priority=normal reason=queue_full",
    ),
    Situation(
        "priority: bulk behind a full queue of bulk",
        _asked_as("bulk", model="busy"),
        OVERLOADED,
        scene=lambda mesh: _full(mesh, "bulk"),
        counted="mesh_gateway_queue_refusals_total model=busy priority=bulk reason=queue_full",
    ),
    Situation(
        "priority: normal displaces bulk",
        _asked_as("good", model="busy"),
        ANSWERED,
        scene=lambda mesh: _full(mesh, "bulk"),
        midway=_until_displaced,
        counted="mesh_gateway_queue_refusals_total model=busy priority=bulk reason=displaced",
    ),
    Situation("deadline", _asked_as("good", prompt=WAIT, timeout_s=0.15), TOO_LATE),
    Situation("cancel", _asked_as("good", prompt=WAIT), LEFT, leaves=True),
    Situation(
        "cancel in mid-answer",
        _asked_as("good", prompt=WAIT_AMID),
        LEFT,
        leaves=True,
        uneven="mesh_gateway_tokens_total",  # what was sent is charged, and a unary call has sent nothing
    ),
    Situation("bad payload", _asked_as("good", prompt=BAD), INVALID),
    Situation("bad number", _asked_as("good", temperature=99), INVALID, may_end_at_bridge=True),
    Situation("worker down", _asked_as("good", model="down"), NOBODY_THERE),
    *(
        Situation(f"canary for {tenant}", _asked_as(tenant, model="canary"), ANSWERED)
        for tenant in CANARY_TENANTS
    ),
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
