"""Takes calls in, has their sender identified, and settles them at their end.

Owns the record's beginning and end: the span, the grants' settlement, the metrics, the usage
record and the one access-log line of each call. The line has the key's id, never a prompt, an
answer or a credential. What happens in between is `serving`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator

import grpc

from gateway.call import Call, Context, WorkerStatusError, code_of
from gateway.forwarded_metadata import Pairs, credential_of
from gateway.front import call_span
from gateway.front.refusals import error_of
from gateway.identity.identities import Identities
from gateway.metrics import GatewayMetrics
from gateway.policy.facts import Caller, Credentials, Refuse
from inference_mesh import telemetry, tracing
from inference_mesh.deadlines import deadline_of
from inference_mesh.errors import MeshError
from inference_mesh.metadata import REQUEST_ID, value_of
from inference_mesh.peer_certificate import certificate_names
from inference_mesh.request_ids import request_id_from
from inference_mesh.tracing import span

log = telemetry.get_logger(__name__)

AtEnd = Callable[[Call, grpc.StatusCode, float], None]
"""Told of every call that ended: the call, its code, and how long it took in seconds."""


class CallDesk:
    """Takes calls in and settles them at their end."""

    def __init__(
        self,
        identities: Identities,
        metrics: GatewayMetrics,
        rng: random.Random,
        *,
        at_end: AtEnd,
        has_tls: bool,
    ) -> None:
        """has_tls: whether a client may have shown a certificate."""
        self._identities = identities
        self._metrics = metrics
        self._rng = rng
        self._at_end = at_end
        self._has_tls = has_tls

    @contextlib.contextmanager
    def observed(self, method: str, context: Context) -> Iterator[Call]:
        """The record of a call for the length of a block, settled however the block ends.

        A WorkerStatusError becomes the status of the call and goes no further; a unary handler
        then returns no answer.
        """
        metadata: Pairs = tuple((key, value) for key, value in context.invocation_metadata() or ())
        now_s = asyncio.get_running_loop().time()
        deadline = deadline_of(context)
        call = Call(method, context, metadata, now_s, deadline, own_deadline=deadline)
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
            context.set_trailing_metadata((*call.limit_trailers(), *call.decision_trailers()))
            raise

    def take(self, call: Call, request_id: str, size_bytes: int) -> None:
        """Note the size and the id of a call: the message's, else the metadata's, else a new one."""
        call.size_bytes = size_bytes
        call.request_id = request_id_from(request_id or value_of(call.metadata, REQUEST_ID))
        telemetry.current_request_id.set(call.request_id)

    async def identify(self, call: Call) -> Caller:
        """Who calls. Raises UnauthenticatedError."""
        names = certificate_names(call.context.auth_context()) if self._has_tls else ()
        credentials = Credentials(credential_of(call.metadata), names)
        now_s = time.time()
        found = self._identities.try_identify(credentials, now_s)
        if found is None:
            found = await self._identities.identify(credentials, now_s)
        if isinstance(found, Refuse):
            raise error_of(found)
        call.caller = found
        return found

    def count_in(self, call: Call) -> None:
        """Count a call that was let in as running, until it is settled."""
        call.counted_as = call.model
        self._metrics.in_flight.add((call.model,))

    def draw(self) -> float:
        """A random number in [0, 1)."""
        return self._rng.random()

    def _settle(self, call: Call, code: grpc.StatusCode, duration_s: float) -> None:
        now_s = asyncio.get_running_loop().time()
        used = call.used_tokens(code)
        for grant in call.later_grants:
            part = min(used, grant.token_total or 0)
            grant.settle(part, now_s)
            used -= part
        for grant in call.grants:
            grant.settle(used, now_s)
        if call.counted_as:
            self._metrics.in_flight.add((call.counted_as,), -1)
        self._metrics.requests.add((call.model, call.method, code.name))
        self._metrics.request_seconds.observe((call.model, call.method), duration_s, tracing.exemplar())
        self._at_end(call, code, duration_s)
        call_span.note_end(call, code)
        _log_call(call, code, duration_s)


def _log_call(call: Call, code: grpc.StatusCode, duration_s: float) -> None:
    """The access line: who, what was decided, how it ended, and what it used."""
    caller, usage = call.caller, call.usage
    log.info(
        "call",
        method=call.method,
        model=call.model,
        tenant=caller.tenant.name if caller else "",
        key=caller.key_id if caller else "",
        code=code.name,
        decision=call.decision() if call.admission else "",
        duration_s=round(duration_s, 6),
        size_bytes=call.size_bytes,
        endpoint=call.endpoint,
        attempts=call.attempts,
        delivered=call.delivered,
        prompt_tokens=usage.prompt_tokens if usage else call.prompt_tokens or 0,
        completion_tokens=usage.completion_tokens if usage else call.delivered_tokens,
        cached_tokens=usage.cached_tokens if usage else 0,
    )


def _trailers(context: Context) -> Pairs:
    return tuple((key, value) for key, value in context.trailing_metadata() or ())
