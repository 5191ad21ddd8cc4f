"""Whether a replica is healthy, told as soon as it changes.

A Watch stream tells at once what a worker says of itself, and that its process died. It says
nothing when the process is stopped or its machine is gone; then a Check without an answer
does. Both go over the connection that the calls take.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Any

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

CHECK_INTERVAL_S = 1.0
RECHECK_INTERVAL_S = 0.1
CHECK_TIMEOUT_S = 1.0
SILENCES_ALLOWED = 1
"""Unanswered checks in a row that a merely busy replica may have."""
RECONNECT_DELAY_S = 0.2
HEALTH_PATH = "/healthz"


class Health(enum.Enum):
    """What a replica says of itself, or that it says nothing.

    UNHEALTHY: it takes no new calls; it may well end those that it has. SILENT: it gives no answer
    at all, so that calls wait there in vain. STALLED: it gives none while it has calls of ours: it
    hangs, or its only thread is busy with one of them.
    """

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    SILENT = "silent"
    STALLED = "stalled"


Report = Callable[[Health], None]
NoteFailure = Callable[[grpc.aio.AioRpcError], None]


async def watch_grpc_health(
    channel: grpc.aio.Channel, service: str, report: Report, note_failure: NoteFailure
) -> None:
    """Report for ever whether a gRPC server serves; one without grpc.health.v1 does if it answers.

    note_failure: told how a Watch failed, before that is reported.
    """
    stub: Any = health_pb2_grpc.HealthStub(channel)
    while True:
        try:
            await _follow(stub, service, report)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                await _poll(stub, service, report)
            else:
                note_failure(error)
                report(Health.UNHEALTHY)
        await asyncio.sleep(RECONNECT_DELAY_S)


async def _follow(stub: Any, service: str, report: Report) -> None:
    """Follow one Watch stream to its end, with checks while it is silent. Raises AioRpcError."""
    silences = Silences(report)
    patience_s = CHECK_INTERVAL_S
    call = stub.Watch(health_pb2.HealthCheckRequest(service=service))
    reading = asyncio.ensure_future(call.read())
    try:
        while True:
            done, _ = await asyncio.wait({reading}, timeout=patience_s)
            if not done:
                is_healthy = await _check(stub, service)
                silences.note(is_healthy)
                patience_s = CHECK_INTERVAL_S if is_healthy is not None else RECHECK_INTERVAL_S
                continue
            response = reading.result()
            if response is grpc.aio.EOF:
                report(Health.UNHEALTHY)
                return
            silences.note(_is_serving(response))
            reading = asyncio.ensure_future(call.read())
    finally:
        reading.cancel()
        call.cancel()


async def _poll(stub: Any, service: str, report: Report) -> None:
    """Check a server without Watch, until it no longer answers."""
    silences = Silences(report)
    while True:
        is_there = silences.note(await _check(stub, service))
        if not is_there:
            return
        await asyncio.sleep(CHECK_INTERVAL_S)


async def _check(stub: Any, service: str) -> bool | None:
    """Whether the server serves; None = it gave no answer in time."""
    try:
        response = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=CHECK_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return None
        return error.code() is grpc.StatusCode.UNIMPLEMENTED
    return _is_serving(response)


def _is_serving(response: health_pb2.HealthCheckResponse) -> bool:
    return response.status == health_pb2.HealthCheckResponse.SERVING


class Silences:
    """Reports answers at once, and silence only when it lasts."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._count = 0
        self._kind = Health.SILENT

    def note(self, is_healthy: bool | None, kind: Health = Health.SILENT) -> bool:
        """Take an answer, or None for silence; false once the replica counts as gone.

        kind: of the silence; one of another kind begins the count anew.
        """
        if is_healthy is not None:
            self._count = 0
            self._report(Health.HEALTHY if is_healthy else Health.UNHEALTHY)
            return is_healthy
        if kind is not self._kind:
            self._kind, self._count = kind, 0
        self._count += 1
        if self._count > SILENCES_ALLOWED:
            self._report(kind)
        return self._count <= SILENCES_ALLOWED


async def watch_http_health(client: httpx.AsyncClient, report: Report, is_busy: Callable[[], bool]) -> None:
    """Report for ever whether an HTTP service takes calls.

    503 from /healthz says no; any other answer says yes, as not every service has that path.
    Silence while it works for us is told apart, within 4 s: from here, a service that hangs looks
    like one whose single thread is busy, as in both cases its kernel goes on answering.
    """
    silences = Silences(report)
    while True:
        was_busy = is_busy()
        is_healthy = await _probe(client)
        silences.note(is_healthy, Health.STALLED if was_busy or is_busy() else Health.SILENT)
        await asyncio.sleep(CHECK_INTERVAL_S if is_healthy else RECONNECT_DELAY_S)


async def _probe(client: httpx.AsyncClient) -> bool | None:
    try:
        response = await client.get(HEALTH_PATH, timeout=CHECK_TIMEOUT_S)
    except httpx.ReadTimeout:
        return None
    except httpx.HTTPError:
        return False
    return response.status_code != 503
