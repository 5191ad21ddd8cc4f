"""One call: what is known of it from its arrival to its end.

Owns the record, what of it a worker and the caller are told, and the code that it ends with.
Does not own the decisions (`policy`) or what is done at its end (`front.desk`).
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import grpc

from gateway.forwarded_metadata import Pairs, client_metadata_for_worker
from gateway.limits.grant import Grant
from gateway.methods import TWO_WAY_METHODS
from gateway.metrics import UNKNOWN_MODEL
from gateway.policy.facts import NO_COST, Admit, Caller, Cost, Priority, Standing
from inference_mesh import limit_standing
from inference_mesh.deadlines import earlier, remaining_s
from inference_mesh.errors import MeshError
from inference_mesh.metadata import (
    CACHE,
    DECISION,
    DEFAULTS,
    DELIVERED,
    LIMITS,
    MAX_TOKENS,
    MODEL,
    PRIORITY,
    REQUEST_ID,
    TENANT,
    TOKEN_BUDGET,
    VERSION,
)
from inference_mesh.tracing import trace_metadata
from inference_mesh.v1 import payload_pb2

HOP_SHARE, LONGEST_HOP_S = 0.02, 0.05
"""What a hop keeps of the remaining time, so that the worker's own answer still arrives."""

Context = grpc.aio.ServicerContext[Any, Any]
CUT_OFF = frozenset({grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})
"""What ends a call while its worker may still be at it."""
STREAMING_METHODS = frozenset({"InferStream", "ModelStreamInfer"})


class WorkerStatusError(Exception):
    """A worker ended the call with a status that the client gets as it is."""

    def __init__(self, code: grpc.StatusCode, details: str, trailers: Pairs) -> None:
        super().__init__(code.name)
        self.code = code
        self.details = details
        self.trailers = trailers


@dataclasses.dataclass(slots=True)
class Call:
    """One call. deadline: seconds of the loop's clock; None = no limit.

    cost: what it may use; grants: what the limits gave it, held: names of those limits.
    later_grants: what they gave the later requests of a stream; later_prompt_tokens: the bound of
    their prompts.
    beginning: of the prompt that text is made from; None = no text is made. asked_version: as the
    caller wrote it. failed: targets that were asked before another one took over. own_deadline: the
    caller's, before the model's limit. defaults: what a worker puts where a request says nothing.
    prompt_tokens, usage: what the worker said, None before. delivered: messages that the client
    has; delivered_tokens: of those, tokens of generate; last_message: the last of them.
    """

    method: str
    context: Context
    metadata: Pairs
    started_s: float
    deadline: float | None
    request_id: str = ""
    caller: Caller | None = None
    admission: Admit | None = None
    cost: Cost = NO_COST
    grants: list[Grant] = dataclasses.field(default_factory=list)
    later_grants: list[Grant] = dataclasses.field(default_factory=list)
    later_prompt_tokens: int = 0
    beginning: bytes | None = None
    asked_version: str = ""
    failed: list[tuple[Admit, grpc.StatusCode]] = dataclasses.field(default_factory=list)
    defaults: bytes = b""
    held: set[str] = dataclasses.field(default_factory=set)
    own_deadline: float | None = None
    counted_as: str = ""
    size_bytes: int = 0
    endpoint: str = ""
    attempts: int = 0
    resumed: int = 0
    delivered: int = 0
    delivered_tokens: int = 0
    last_message: bytes = b""
    prompt_tokens: int | None = None
    usage: payload_pb2.Usage | None = None
    first_token_at_s: float | None = None
    refused_by: tuple[Standing, ...] = ()
    waited_s: float = 0.0
    cache: str = ""
    fallback_from: str = ""

    @property
    def model(self) -> str:
        """Name of the resolved model; "unknown" before."""
        return self.admission.model.name if self.admission else UNKNOWN_MODEL

    @property
    def admitted(self) -> Admit:
        """The policy's decision; only asked for after it was made."""
        if self.admission is None:
            raise RuntimeError("the call was not admitted")
        return self.admission

    @property
    def standings(self) -> tuple[Standing, ...]:
        """How the limits of the call stand."""
        if len(self.grants) == 1:
            return self.grants[0].standings
        return tuple(standing for grant in self.grants for standing in grant.standings)

    @property
    def token_total(self) -> int | None:
        """Most tokens that it may use, prompt and answer together; None = no budget applies."""
        totals = [grant.token_total for grant in self.grants if grant.token_total is not None]
        return min(totals) if totals else None

    def limit_to(self, timeout_s: float) -> None:
        """End no later than so many seconds after the call came."""
        self.deadline = earlier(self.deadline, self.started_s + timeout_s)

    def timeout_s(self) -> float | None:
        """What the worker gets of the remaining time. Raises DeadlineExceededError if none is left."""
        left_s = remaining_s(self.deadline)
        return None if left_s is None else left_s - min(LONGEST_HOP_S, left_s * HOP_SHARE)

    def worker_metadata(self) -> Pairs:
        """What the worker is told: the client's own, the policy's decision and the trace."""
        decided = self.admitted
        tenant = decided.caller.tenant
        ours: list[tuple[str, str | bytes]] = [
            (REQUEST_ID, self.request_id),
            (MODEL, decided.model.name),
            (TENANT, decided.caller.salt),
        ]
        if decided.version:
            ours.append((VERSION, decided.version))
        if tenant.priority != "normal":
            ours.append((PRIORITY, tenant.priority))
        if decided.model.max_tokens is not None:
            ours.append((MAX_TOKENS, str(decided.model.max_tokens)))
        if self.defaults:
            ours.append((DEFAULTS, self.defaults))
        total = 0 if self.method in TWO_WAY_METHODS else self.token_total
        if total:  # 0: nothing of the request is counted beforehand, or its stream has others
            ours.append((TOKEN_BUDGET, str(total)))
        return (*client_metadata_for_worker(self.metadata), *ours, *trace_metadata())

    def initial_metadata(self) -> Pairs:
        """What the caller is told before the answer: its tightest limits, and where the answer comes from."""
        told: list[tuple[str, str | bytes]] = []
        tightest = self._tightest()
        if tightest:
            told.append((LIMITS, limit_standing.encode(tightest)))
        if self.cache:
            told.append((CACHE, self.cache))
        if self.method in STREAMING_METHODS:
            told.append((DECISION, self.decision()))
        return tuple(told)

    def limit_trailers(self) -> Pairs:
        """What a refused caller is told of the limits that refused it."""
        standings = self.refused_by or self.standings
        return ((LIMITS, limit_standing.encode(standings)),) if standings else ()

    def decision_trailers(self) -> Pairs:
        """What the caller is told of how the call was served."""
        if self.admission is None:
            return ()
        trailers: list[tuple[str, str | bytes]] = [(DECISION, self.decision()), (REQUEST_ID, self.request_id)]
        if self.method in STREAMING_METHODS:
            count = self.delivered_tokens or self.delivered
            trailers.append((DELIVERED, str(count)))
        return tuple(trailers)

    def decision(self) -> str:
        """Which target, rule and wait applied, e.g. `model=chat;version=2;rule=canary;endpoint=…`."""
        decided = self.admitted
        version = f";version={decided.version}" if decided.version else ""
        wait_ms = round(self.waited_s * 1000)
        text = f"model={decided.model.name}{version};rule={decided.rule.value};wait_ms={wait_ms}"
        if self.fallback_from:
            text += f";fallback_from={self.fallback_from}"
        if self.cache:
            text += f";cache={self.cache}"
        if self.endpoint:
            text += f";endpoint={self.endpoint};attempts={self.attempts}"
        if self.resumed:
            text += f";resumed={self.resumed}"
        if self._is_degraded():
            text += f";degraded={','.join(one.name for one in self.standings if one.is_degraded)}"
        return text

    def _tightest(self) -> list[Standing]:
        """Of each kind of limit the standing with the least left."""
        if len(self.grants) == 1:
            return self.grants[0].tightest
        return limit_standing.tightest(self.standings)

    def _is_degraded(self) -> bool:
        """Whether a limit was decided without the shared ledger."""
        for grant in self.grants:  # noqa: SIM110 - a generator costs as much as the rest of `decision`
            if grant.is_degraded:
                return True
        return False

    def used_tokens(self, code: grpc.StatusCode) -> int:
        """Tokens that the call is charged: the worker's count, else what reached the caller.

        A unary call tells nothing before its end: one that its caller left, or that ran out of
        time, is charged the bound of its prompt. So is a stream of requests that ends before its
        worker's count, and a token for each answer. code: what the call ended with.
        """
        if self.usage is not None:
            return self.usage.prompt_tokens + self.usage.completion_tokens
        if self.method in TWO_WAY_METHODS and self.endpoint:
            return self.cost.prompt_tokens + self.later_prompt_tokens + self.delivered
        if self.prompt_tokens is not None:
            return self.prompt_tokens + self.delivered_tokens
        return self.cost.prompt_tokens if self.endpoint and code in CUT_OFF else 0


def priority_of(caller: Caller) -> Priority:
    """The class in which a caller's calls wait."""
    return Priority[caller.tenant.priority.upper()]


def code_of(error: BaseException, call: Call) -> grpc.StatusCode:
    """The gRPC code that a call ends with when its handler raises this.

    A handler is cancelled both when its caller leaves and when the caller's deadline passes.
    """
    if isinstance(error, MeshError | WorkerStatusError):
        return error.code
    if not isinstance(error, asyncio.CancelledError):
        return grpc.StatusCode.INTERNAL
    is_late = call.deadline is not None and asyncio.get_running_loop().time() >= call.deadline
    return grpc.StatusCode.DEADLINE_EXCEEDED if is_late else grpc.StatusCode.CANCELLED
