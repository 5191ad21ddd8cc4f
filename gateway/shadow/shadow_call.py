"""One copy of a call: sent to the shadow, and compared with what the caller got.

Owns the copy from its beginning to its one result. Which calls are copied, and what the
results add up to, is `shadows`.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence

import grpc

from gateway.call import WorkerStatusError
from gateway.forwarded_metadata import Pairs
from gateway.policy.shadow.copying import Target
from gateway.policy.shadow.measures import Comparison
from gateway.shadow.comparison import IncomparableError, compare_answers
from gateway.shadow.metrics import CopyResult
from inference_mesh import telemetry
from inference_mesh.errors import MeshError, OverloadedError

log = telemetry.get_logger(__name__)

MAX_COMPARED_BYTES = 8 * 1024 * 1024
"""Of both answers together; longer ones are not compared."""
INLINE_BYTES = 64 * 1024
"""Answers up to here are compared on the event loop, in well under a millisecond."""


@dataclasses.dataclass(frozen=True, slots=True)
class ShadowRequest:
    """What is sent to a shadow.

    method: name of the RPC. metadata: for the worker. timeout_s: how long it may take.
    """

    target: Target
    method: str
    message: bytes
    metadata: Pairs
    timeout_s: float


Send = Callable[[ShadowRequest], Awaitable[Sequence[bytes]]]
"""Sends a request to a replica of its target; every message of the answer.

Raises MeshError, WorkerStatusError or grpc.RpcError; OverloadedError where callers leave no room.
"""

OnEnd = Callable[["ShadowCall", CopyResult, "Comparison | None"], None]


class ShadowCall:
    """One copy, until it has a result.

    Whoever got it ends it: `finish` with the caller's answer, or `discard`.
    """

    def __init__(self, model: str, request_id: str, request: ShadowRequest, on_end: OnEnd) -> None:
        """model: whose call was copied. on_end: told the result, once."""
        self.model = model
        self.request_id = request_id
        self.request = request
        self._on_end: OnEnd | None = on_end
        self._primary: asyncio.Future[Sequence[bytes]] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    def started(self, task: asyncio.Task[None]) -> None:
        """Take over the task that runs the copy."""
        self._task = task
        task.add_done_callback(lambda _: self._end(CopyResult.DROPPED, None))

    def finish(self, answer: Sequence[bytes]) -> None:
        """Compare with the messages that the caller got, all of them."""
        if not self._primary.done():
            self._primary.set_result(answer)

    def discard(self) -> None:
        """Give the copy up: the caller got no whole answer. Does nothing after `finish`."""
        if not self._primary.done():
            self._cancel(CopyResult.UNPAIRED)

    def drop(self) -> None:
        """Give the copy up to leave room for callers, however far it is."""
        self._cancel(CopyResult.DROPPED)

    async def run(self, send: Send) -> None:
        """Send the copy and compare; ends with a result unless it is cancelled. Raises nothing else."""
        try:
            await self._send_and_compare(send)
        except OverloadedError:
            self._end(CopyResult.DROPPED, None)
        except (MeshError, WorkerStatusError, grpc.RpcError, TimeoutError, IncomparableError) as error:
            log.debug("copy failed", model=self.model, exception=type(error).__name__)
            self._end(CopyResult.FAILED, None)
        except Exception as error:
            log.exception("copy failed", model=self.model, exception=type(error).__name__)
            self._end(CopyResult.FAILED, None)

    async def _send_and_compare(self, send: Send) -> None:
        async with asyncio.timeout(self.request.timeout_s):
            shadow = await send(self.request)
        try:
            async with asyncio.timeout(self.request.timeout_s):
                primary = await self._primary
        except TimeoutError:
            self._end(CopyResult.UNPAIRED, None)
            return
        comparison = await self._compared(primary, shadow)
        self._end(CopyResult.AGREED if comparison.agrees else CopyResult.DIFFERED, comparison)

    async def _compared(self, primary: Sequence[bytes], shadow: Sequence[bytes]) -> Comparison:
        size_bytes = sum(map(len, primary)) + sum(map(len, shadow))
        if size_bytes > MAX_COMPARED_BYTES:
            raise IncomparableError("the answers are too long")
        if size_bytes <= INLINE_BYTES:
            return compare_answers(self.request.method, primary, shadow)
        return await asyncio.to_thread(compare_answers, self.request.method, primary, shadow)

    def _cancel(self, result: CopyResult) -> None:
        self._end(result, None)
        if self._task is not None:
            self._task.cancel()

    def _end(self, result: CopyResult, comparison: Comparison | None) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(self, result, comparison)
