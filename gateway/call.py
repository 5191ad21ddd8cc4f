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
from gateway.metrics import UNKNOWN_MODEL
from gateway.policy.facts import Admit
from gateway.policy.identity.api_keys import tenant_salt
from inference_mesh.deadlines import earlier, remaining_s
from inference_mesh.errors import MeshError
from inference_mesh.metadata import DECISION, DELIVERED, MODEL, REQUEST_ID, TENANT, VERSION
from inference_mesh.telemetry import trace_metadata

HOP_SHARE, LONGEST_HOP_S = 0.02, 0.05
"""What a hop keeps of the remaining time, so that the worker's own answer still arrives."""

Context = grpc.aio.ServicerContext[Any, Any]
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
    """One call. deadline: seconds of the loop's clock; None = no limit."""

    method: str
    context: Context
    metadata: Pairs
    started_s: float
    deadline: float | None
    request_id: str = ""
    admission: Admit | None = None
    size_bytes: int = 0
    endpoint: str = ""
    attempts: int = 0
    delivered: int = 0

    @property
    def model(self) -> str:
        """Name of the resolved model; "unknown" before."""
        return self.admission.model.name if self.admission else UNKNOWN_MODEL

    @property
    def admitted(self) -> Admit:
        """The policy's decision; only asked for after `admit`."""
        if self.admission is None:
            raise RuntimeError("the call was not admitted")
        return self.admission

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
        ours: list[tuple[str, str | bytes]] = [
            (REQUEST_ID, self.request_id),
            (MODEL, decided.model.name),
            (TENANT, tenant_salt(decided.caller.tenant)),
        ]
        if decided.version:
            ours.append((VERSION, decided.version))
        return (*client_metadata_for_worker(self.metadata), *ours, *trace_metadata())

    def decision_trailers(self) -> Pairs:
        """What the caller is told of how the call was served."""
        if not self.endpoint:
            return ()
        text = f"model={self.model};endpoint={self.endpoint};attempts={self.attempts}"
        trailers: list[tuple[str, str | bytes]] = [(DECISION, text), (REQUEST_ID, self.request_id)]
        if self.method in STREAMING_METHODS:
            trailers.append((DELIVERED, str(self.delivered)))
        return tuple(trailers)


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
