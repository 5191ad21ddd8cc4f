"""One call from its arrival to its end: what is known of it, and how it is settled.

Owns the record, the metrics and the one access-log line of each call. The line has the key's
id, never a prompt, an answer or a credential.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import grpc

from gateway.forwarded_metadata import Pairs, client_metadata_for_worker, credential_of
from gateway.metrics import UNKNOWN_MODEL, GatewayMetrics
from gateway.policy.api_keys import tenant_salt
from gateway.policy.engine import PolicyEngine
from gateway.policy.facts import Admit, Caller, CallFacts, RefusalKind, Refuse
from gateway.refusals import error_of
from gateway.routing_fields import RoutingFields
from inference_mesh import telemetry
from inference_mesh.deadlines import deadline_of, earlier, remaining_s
from inference_mesh.errors import MeshError
from inference_mesh.metadata import DECISION, MODEL, REQUEST_ID, TENANT, VERSION, value_of
from inference_mesh.request_ids import request_id_from
from inference_mesh.telemetry import span, trace_metadata

log = telemetry.get_logger(__name__)

DELIVERED = "x-mesh-delivered"
HOP_SHARE, LONGEST_HOP_S = 0.02, 0.05
"""What a hop keeps of the remaining time, so that the worker's own answer still arrives."""

Context = grpc.aio.ServicerContext[Any, Any]


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


STREAMING_METHODS = frozenset({"InferStream", "ModelStreamInfer"})


class CallDesk:
    """Takes calls in, has the policy judge them, and settles them at their end."""

    def __init__(self, policy: PolicyEngine, metrics: GatewayMetrics) -> None:
        self._policy = policy
        self._metrics = metrics

    @contextlib.contextmanager
    def observed(self, method: str, context: Context) -> Iterator[Call]:
        """The record of a call for the length of a block, settled however the block ends.

        A WorkerStatusError becomes the status of the call and goes no further; a unary handler
        then returns no answer.
        """
        metadata: Pairs = tuple((key, value) for key, value in context.invocation_metadata() or ())
        now_s = asyncio.get_running_loop().time()
        call = Call(method, context, metadata, now_s, deadline_of(context))
        started = time.monotonic()  # uvloop's own clock counts whole milliseconds
        code = grpc.StatusCode.OK
        try:
            with span(method, metadata=metadata, kind="server"):
                try:
                    yield call
                    context.set_trailing_metadata((*_trailers(context), *call.decision_trailers()))
                except BaseException as error:
                    code = code_of(error, call)
                    raise
                finally:
                    self._settle(call, code, time.monotonic() - started)
        except WorkerStatusError as status:
            context.set_code(status.code)
            context.set_details(status.details)
            context.set_trailing_metadata((*status.trailers, *call.decision_trailers()))
        except MeshError:
            context.set_trailing_metadata(call.decision_trailers())
            raise

    def admit(self, call: Call, fields: RoutingFields, size_bytes: int) -> Admit:
        """Have the policy judge a call. Raises the MeshError of its refusal."""
        call.size_bytes = size_bytes
        call.request_id = request_id_from(fields.request_id or value_of(call.metadata, REQUEST_ID))
        telemetry.current_request_id.set(call.request_id)
        decision = self._policy.admit(
            CallFacts(
                model=fields.model,
                version=fields.version,
                credential=credential_of(call.metadata),
                size_bytes=size_bytes,
                now_s=asyncio.get_running_loop().time(),
                wall_time_s=time.time(),
            )
        )
        if isinstance(decision, Refuse):
            raise error_of(decision)
        call.admission = decision
        self._metrics.in_flight.labels(call.model).inc()
        return decision

    def identify(self, call: Call) -> Caller:
        """Who calls, for what needs a key but no model. Raises UnauthenticatedError."""
        caller = self._policy.identify(credential_of(call.metadata), time.time())
        if isinstance(caller, Refuse):
            raise error_of(caller)
        return caller

    async def admit_more(self, call: Call, size_bytes: int) -> None:
        """Admit one more request of an open stream; waits while its key's rate is spent.

        Raises the MeshError of any other refusal, as when the key was revoked.
        """
        loop = asyncio.get_running_loop()
        credential = credential_of(call.metadata)
        while True:
            refusal = self._policy.admit_more(credential, size_bytes, loop.time(), time.time())
            if refusal is None:
                return
            if refusal.kind is not RefusalKind.RATE_LIMITED:
                raise error_of(refusal)
            await asyncio.sleep(refusal.retry_after_s or 0)

    def _settle(self, call: Call, code: grpc.StatusCode, duration_s: float) -> None:
        if call.admission is not None:
            self._metrics.in_flight.labels(call.model).dec()
        self._metrics.requests.labels(call.model, call.method, code.name).inc()
        self._metrics.request_seconds.labels(call.model, call.method).observe(duration_s)
        log.info(
            "call",
            method=call.method,
            model=call.model,
            key=call.admission.caller.key_id if call.admission else "",
            code=code.name,
            duration_s=round(duration_s, 6),
            size_bytes=call.size_bytes,
            endpoint=call.endpoint,
            attempts=call.attempts,
            delivered=call.delivered,
        )


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


def _trailers(context: Context) -> Pairs:
    return tuple((key, value) for key, value in context.trailing_metadata() or ())
