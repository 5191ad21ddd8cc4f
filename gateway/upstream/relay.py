"""Carries calls between a client and a worker over grpc.aio, the bytes untouched.

Owns deadlines, cancellation and the copying of streams. Which replica is asked, and how often,
is decided in `attempts`; what a worker's status means, in `worker_status`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from gateway.call import Call, Context
from gateway.forwarded_metadata import worker_metadata_for_client
from gateway.metrics import GatewayMetrics
from gateway.upstream.attempts import Attempts, RetryBudgets
from gateway.upstream.endpoints import EndpointPool, GrpcEndpoint
from gateway.upstream.worker_status import client_error, is_connection_lost, is_unavailable, lost_connection
from inference_mesh.deadlines import remaining_s
from inference_mesh.errors import CancelledByCallerError, DeadlineExceededError

QUEUED_REQUESTS = 8
"""Messages of a client's stream that wait for the worker; more are not read."""

Judge = Callable[[bytes], Awaitable[None]]


class Relay:
    """Owns the retry budgets; one for all methods."""

    def __init__(self, metrics: GatewayMetrics, budgets: RetryBudgets, rng: random.Random) -> None:
        self._metrics = metrics
        self._budgets = budgets
        self._rng = rng

    async def unary(self, call: Call, pool: EndpointPool[GrpcEndpoint], path: str, message: bytes) -> bytes:
        """The worker's answer. Raises WorkerStatusError and MeshError."""

        async def once(endpoint: GrpcEndpoint) -> bytes:
            return await _unary(call, endpoint, path, message)

        answer: bytes = await self._attempt(call, pool, once)
        return answer

    async def server_stream(
        self, call: Call, pool: EndpointPool[GrpcEndpoint], path: str, message: bytes
    ) -> None:
        """Write the worker's answers to the client. Raises WorkerStatusError and MeshError."""

        async def once(endpoint: GrpcEndpoint) -> None:
            method: Any = endpoint.channel.unary_stream(path, None, None)
            upstream = method(message, metadata=call.worker_metadata(), timeout=call.timeout_s())
            await _copy_answers(upstream, call)

        await self._attempt(call, pool, once)

    async def bidirectional(
        self,
        call: Call,
        pool: EndpointPool[GrpcEndpoint],
        path: str,
        first: bytes,
        rest: AsyncIterator[bytes],
        judge: Judge,
    ) -> None:
        """Relay both directions until the worker ends. judge: raises for a message that may not pass.

        Raises WorkerStatusError and MeshError. Retried only while the worker got no more than
        the first message.
        """
        requests: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUED_REQUESTS)
        state = _StreamState()

        async def once(endpoint: GrpcEndpoint) -> None:
            method: Any = endpoint.channel.stream_stream(path, None, None)
            upstream = method(metadata=call.worker_metadata(), timeout=call.timeout_s())
            await _exchange(upstream, call, first, requests, state)

        async def everything() -> None:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(_read_requests(rest, requests, judge))
                await self._attempt(call, pool, once, lambda: not state.is_committed)
                reading.cancel()

        await _ungrouped(everything())

    async def _attempt(
        self,
        call: Call,
        pool: EndpointPool[GrpcEndpoint],
        once: Callable[[GrpcEndpoint], Awaitable[Any]],
        is_repeatable: Callable[[], bool] = lambda: True,
    ) -> Any:
        """The result of the first attempt that reaches a worker."""
        attempts = Attempts(call, pool, self._budgets.of(call.model), self._metrics, self._rng)
        with attempts.counted():
            while True:
                try:
                    with attempts.next() as endpoint:
                        return await once(endpoint)
                except grpc.aio.AioRpcError as error:
                    failure = error
                except asyncio.CancelledError:
                    if _is_cancelled():
                        raise
                    # A channel that is closed, as after the longest drain, cancels its calls.
                    raise lost_connection(call.model, call.delivered) from None
                if not is_unavailable(failure):
                    raise client_error(failure, call.model, call.delivered)
                is_lost = is_connection_lost(failure)
                is_early = call.delivered == 0 and is_repeatable()
                if not attempts.may_retry(is_connection_lost=is_lost, is_repeatable=is_early):
                    raise client_error(failure, call.model, call.delivered)


class _StreamState:
    """Whether a client's stream has gone so far that no other worker can take it over."""

    def __init__(self) -> None:
        self.is_committed = False


async def _unary(call: Call, endpoint: GrpcEndpoint, path: str, message: bytes) -> bytes:
    method: Any = endpoint.channel.unary_unary(path, None, None)
    upstream = method(message, metadata=call.worker_metadata(), timeout=call.timeout_s())
    try:
        answer: bytes = await upstream
        await _send_initial(call.context, upstream)
        await _keep_trailers(call.context, upstream)
    finally:
        upstream.cancel()
    call.delivered = 1
    return answer


async def _copy_answers(upstream: Any, call: Call) -> None:
    """Write every answer to the client as it comes. Raises AioRpcError if the end is not OK."""
    try:
        while (message := await upstream.read()) is not grpc.aio.EOF:
            if call.delivered == 0:
                await _send_initial(call.context, upstream)
            await _write(call, message)
            call.delivered += 1
        await _keep_trailers(call.context, upstream)
    finally:
        upstream.cancel()


async def _write(call: Call, message: bytes) -> None:
    """Write one answer; a client who does not read holds the worker no longer than the call may last."""
    try:
        async with asyncio.timeout_at(call.deadline):
            await call.context.write(message)
    except TimeoutError:
        raise DeadlineExceededError("the deadline passed before the answer was read") from None
    except (grpc.aio.InternalError, asyncio.InvalidStateError):  # what a write to nobody raises
        remaining_s(call.deadline)
        raise CancelledByCallerError("the caller left") from None


async def _exchange(
    upstream: Any, call: Call, first: bytes, requests: asyncio.Queue[bytes | None], state: _StreamState
) -> None:
    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(_write_requests(upstream, first, requests, state))
            await _copy_answers(upstream, call)
            writing.cancel()

    await _ungrouped(both())


async def _read_requests(
    rest: AsyncIterator[bytes], requests: asyncio.Queue[bytes | None], judge: Judge
) -> None:
    async for message in rest:
        await judge(message)
        await requests.put(message)
    await requests.put(None)


async def _write_requests(
    upstream: Any, first: bytes, requests: asyncio.Queue[bytes | None], state: _StreamState
) -> None:
    """Write the client's messages; how the call fails is told by the reading side."""
    try:
        await upstream.write(first)
        while (message := await requests.get()) is not None:
            state.is_committed = True
            await upstream.write(message)
        state.is_committed = True
        await upstream.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return


async def _send_initial(context: Context, upstream: Any) -> None:
    metadata = worker_metadata_for_client(tuple(await upstream.initial_metadata() or ()))
    await context.send_initial_metadata(metadata)


async def _keep_trailers(context: Context, upstream: Any) -> None:
    trailers = worker_metadata_for_client(tuple(await upstream.trailing_metadata() or ()))
    context.set_trailing_metadata(trailers)


def _is_cancelled() -> bool:
    """True if this very task is to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _ungrouped(work: Awaitable[None]) -> None:
    """Await work that uses a TaskGroup; its first exception comes out as itself."""
    try:
        await work
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
