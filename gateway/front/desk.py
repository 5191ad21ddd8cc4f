"""Takes calls in, has the policy judge them, and settles them at their end.

Owns the metrics and the one access-log line of each call. The line has the key's id, never a
prompt, an answer or a credential.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

import grpc

from gateway.call import Call, Context, WorkerStatusError, code_of
from gateway.forwarded_metadata import Pairs, credential_of
from gateway.front.refusals import error_of
from gateway.front.routing_fields import RoutingFields
from gateway.metrics import GatewayMetrics
from gateway.policy.engine import PolicyEngine
from gateway.policy.facts import Admit, Caller, CallFacts, RefusalKind, Refuse
from inference_mesh import telemetry
from inference_mesh.deadlines import deadline_of
from inference_mesh.errors import MeshError
from inference_mesh.metadata import REQUEST_ID, value_of
from inference_mesh.request_ids import request_id_from
from inference_mesh.telemetry import span

log = telemetry.get_logger(__name__)


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


def _trailers(context: Context) -> Pairs:
    return tuple((key, value) for key, value in context.trailing_metadata() or ())
