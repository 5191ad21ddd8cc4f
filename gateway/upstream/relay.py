"""Carries calls between a client and a worker over grpc.aio, the bytes untouched.

Owns deadlines, cancellation and both directions of a stream. Which replica is asked, and how
often, is decided in `attempts`; what a worker's status means, in `worker_status`; how answers
reach the client, in `answer_stream`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc

from gateway.call import Call
from gateway.forwarded_metadata import Pairs, worker_metadata_for_client
from gateway.policy.routing.affinity import prefix_hash
from gateway.policy.routing.outliers import Fault
from gateway.policy.routing.resume import delivery_of
from gateway.upstream.answer_stream import AnswerStream, SilentReplicaError
from gateway.upstream.attempts import Attempts, RetryBudgets
from gateway.upstream.endpoints import GrpcEndpoint
from gateway.upstream.fleet import GrpcModel
from gateway.upstream.metrics import UpstreamMetrics
from gateway.upstream.quiet_stream import QuietStream
from gateway.upstream.worker_call import (
    initial_metadata,
    is_cancelled,
    load_of,
    note_prompt,
    note_usage,
    send_initial,
    trailing_metadata,
)
from gateway.upstream.worker_status import client_error, fault_of, lost_connection
from inference_mesh.errors import DeadlineExceededError, StreamBrokenError

QUEUED_REQUESTS = 8
"""Messages of a client's stream that wait for the worker; more are not read."""

Judge = Callable[[bytes], Awaitable[None]]
T = TypeVar("T")


class Relay:
    """Owns the retry budgets; one for all methods."""

    def __init__(self, metrics: UpstreamMetrics, budgets: RetryBudgets, rng: random.Random) -> None:
        self._metrics = metrics
        self._budgets = budgets
        self._rng = rng

    async def unary(self, call: Call, model: GrpcModel, path: str, message: bytes) -> bytes:
        """The worker's answer. Raises WorkerStatusError and MeshError."""

        async def once(endpoint: GrpcEndpoint) -> tuple[bytes, Pairs]:
            method: Any = endpoint.channel.unary_unary(path, None, None)
            upstream = method(message, metadata=call.worker_metadata(), timeout=call.timeout_s())
            with endpoint.carrying(upstream):
                answer: bytes = await upstream
                metadata = await initial_metadata(upstream)
                note_prompt(call, metadata)
                await send_initial(call, metadata)
                return answer, _end_well(call, await trailing_metadata(upstream))

        answer = await self._attempt(call, model, message, once, lambda: True)
        call.delivered, call.last_message = 1, answer
        return answer

    async def server_stream(self, call: Call, model: GrpcModel, path: str, message: bytes) -> None:
        """Write the worker's answers to the client.

        Where the stream breaks, another replica goes on if the model allows it and the text does
        not depend on chance. Raises WorkerStatusError and MeshError.
        """
        delivery = delivery_of(message, call.defaults, is_allowed=model.entry.resume)
        stream = AnswerStream(call, model.entry.timeouts, delivery)

        async def once(endpoint: GrpcEndpoint) -> tuple[None, Pairs]:
            method: Any = endpoint.channel.unary_stream(path, None, None)
            request = stream.request(message)
            upstream = method(request, metadata=call.worker_metadata(), timeout=call.timeout_s())
            with endpoint.carrying(upstream):
                return None, _end_well(call, await stream.copy(upstream))

        def may_go_on() -> bool:
            return call.delivered == 0 or stream.can_resume

        try:
            await self._attempt(call, model, message, once, may_go_on)
        except StreamBrokenError:
            self._metrics.broken_streams.labels(call.model, "ended").inc()
            raise
        finally:
            if call.resumed:
                self._metrics.broken_streams.labels(call.model, "resumed").inc(call.resumed)

    async def bidirectional(
        self,
        call: Call,
        model: GrpcModel,
        path: str,
        first: bytes,
        rest: AsyncIterator[bytes],
        judge: Judge,
    ) -> None:
        """Relay both directions until the worker ends. judge: raises for a message that may not pass.

        Raises WorkerStatusError and MeshError, also if nothing moves for the model's time limit.
        Retried only while the worker got no more than the first message.
        """
        requests: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUED_REQUESTS)
        state = _StreamState()
        stream = AnswerStream(call, None, None)
        quiet = QuietStream(call, model.entry.timeout_s)

        async def once(endpoint: GrpcEndpoint) -> tuple[None, Pairs]:
            method: Any = endpoint.channel.stream_stream(path, None, None)
            upstream = method(metadata=call.worker_metadata(), timeout=call.timeout_s())
            with endpoint.carrying(upstream):
                trailers = await _exchange(upstream, stream, first, requests, state)
                return None, _end_well(call, trailers)

        def may_go_on() -> bool:
            return call.delivered == 0 and not state.is_committed

        async def everything() -> None:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(_read_requests(rest, requests, judge, quiet))
                watching = group.create_task(quiet.watch())
                await self._attempt(call, model, first, once, may_go_on)
                reading.cancel()
                watching.cancel()

        await _ungrouped(everything())

    async def _attempt(
        self,
        call: Call,
        model: GrpcModel,
        message: bytes,
        once: Callable[[GrpcEndpoint], Awaitable[tuple[T, Pairs]]],
        may_go_on: Callable[[], bool],
    ) -> T:
        """The result of the first attempt that a worker answers.

        may_go_on: whether what is still missing can be had from another one.
        """
        prefix = _prefix_of(call, model)
        budget = self._budgets.of(call.model)
        attempts = Attempts(call, model.pool, budget, self._metrics, self._rng, prefix)
        with attempts.counted():
            while True:
                delivered, has_begun = call.delivered, False
                try:
                    with attempts.next() as endpoint:
                        result, trailers = await once(endpoint)
                except (grpc.aio.AioRpcError, SilentReplicaError, asyncio.CancelledError) as error:
                    has_begun = call.delivered > delivered
                    fault, failure = self._failure(error, call, has_begun=has_begun)
                    if isinstance(failure, DeadlineExceededError):
                        attempts.note_if_mute(model.entry.timeout_s)
                    attempts.note_load(load_of(_trailers(error)))
                    if has_begun:
                        attempts.step_forward()
                else:
                    attempts.note_load(load_of(trailers))
                    attempts.succeeded()
                    return result
                may_follow = fault is not None and attempts.may_follow(
                    fault, is_repeatable=may_go_on(), has_begun=has_begun
                )
                if not may_follow:
                    raise failure

    def _failure(
        self, error: BaseException, call: Call, *, has_begun: bool
    ) -> tuple[Fault | None, Exception]:
        """What was wrong with the replica, if anything, and what the client gets for it.

        has_begun: whether the attempt brought something. Raises the error if it is the
        cancellation of the call itself.
        """
        if isinstance(error, grpc.aio.AioRpcError):
            fault = fault_of(error)
            if fault is Fault.REFUSED and has_begun:
                fault = Fault.LOST  # what ends in the middle, by its own word, takes no more work
            if call.delivered and not has_begun and error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                return fault, lost_connection(call)  # nobody takes the broken stream over
            return fault, client_error(error, call)
        if isinstance(error, SilentReplicaError):
            self._metrics.silences.labels(call.model, error.awaited).inc()
            return Fault.HUNG, lost_connection(call)
        if is_cancelled():
            raise error
        # Nobody cancelled this call: its replica fell silent, or its channel was closed, as after
        # the longest drain.
        return Fault.LOST, lost_connection(call)


class _StreamState:
    """Whether a client's stream has gone so far that no other worker can take it over."""

    def __init__(self) -> None:
        self.is_committed = False


def _prefix_of(call: Call, model: GrpcModel) -> int | None:
    """What stands for the beginning of the prompt where there is a choice of replicas."""
    if call.beginning is None or len(model.pool.ready) < 2:
        return None
    return prefix_hash(call.admitted.caller.salt, call.beginning)


def _end_well(call: Call, trailers: Pairs) -> Pairs:
    """Note what a worker says at the end, and hand it on."""
    note_usage(call, trailers)
    call.context.set_trailing_metadata(worker_metadata_for_client(trailers))
    return trailers


def _trailers(error: BaseException) -> Pairs:
    return tuple(error.trailing_metadata() or ()) if isinstance(error, grpc.aio.AioRpcError) else ()


async def _exchange(
    upstream: Any,
    stream: AnswerStream,
    first: bytes,
    requests: asyncio.Queue[bytes | None],
    state: _StreamState,
) -> Pairs:
    """Both directions of one attempt; the worker's trailers."""
    trailers: Pairs = ()

    async def both() -> None:
        nonlocal trailers
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(_write_requests(upstream, first, requests, state))
            trailers = await stream.copy(upstream)
            writing.cancel()

    await _ungrouped(both())
    return trailers


async def _read_requests(
    rest: AsyncIterator[bytes], requests: asyncio.Queue[bytes | None], judge: Judge, quiet: QuietStream
) -> None:
    async for message in rest:
        quiet.asked += 1
        await judge(message)
        await requests.put(message)
    quiet.is_whole = True
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
