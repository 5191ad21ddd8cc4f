"""The answers of one stream on their way to the client, from whichever replica they come.

Owns what the client has, how long a replica may be silent, and the seam where another replica
goes on. Which replica that is, is decided in `attempts`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from gateway.call import Call
from gateway.forwarded_metadata import Pairs
from gateway.policy.routing.resume import Delivery, without_header
from gateway.upstream.patience import Patience
from gateway.upstream.worker_call import (
    initial_metadata,
    is_cancelled,
    note_prompt,
    send_initial,
    trailing_metadata,
    write,
)
from inference_mesh.config.model_traffic import TimeLimits
from inference_mesh.metadata import USAGE
from inference_mesh.v1 import payload_pb2


class SilentReplicaError(Exception):
    """A replica kept a stream waiting too long."""

    def __init__(self, awaited: str) -> None:
        """awaited: `patience.FIRST` or `patience.BETWEEN`."""
        super().__init__(awaited)
        self.awaited = awaited


class AnswerStream:
    """Owns one stream of answers."""

    def __init__(self, call: Call, limits: TimeLimits | None, delivery: Delivery | None) -> None:
        """limits: None = a replica may be silent. delivery: None = it is no generated text."""
        self._call = call
        self._limits = limits
        self._delivery = delivery
        self._is_resuming = False

    @property
    def can_resume(self) -> bool:
        """Whether another replica can go on where this one ended."""
        return self._delivery is not None and self._delivery.can_resume

    @property
    def usage(self) -> payload_pb2.Usage | None:
        """What the last message says of the whole answer; None before the client has that."""
        return self._delivery.usage if self._delivery is not None else None

    def request(self, message: bytes) -> bytes:
        """The request for what the client does not have yet. message: the client's own."""
        return self._delivery.request() if self._delivery is not None else message

    async def copy(self, upstream: Any) -> Pairs:
        """Write every answer to the client as it comes; returns the worker's trailers.

        Raises AioRpcError if the end is not OK, SilentReplicaError, and the MeshError of a
        client who left or did not read.
        """
        self._is_resuming = self._call.delivered > 0
        patience = Patience(upstream, self._limits)
        try:
            with patience:
                await self._copy(upstream, patience)
            return await trailing_metadata(upstream)
        except grpc.aio.AioRpcError:
            if self.usage is None:
                raise
            return self._end()
        except asyncio.CancelledError:
            if is_cancelled() or not patience.is_over:
                raise
            if self.usage is not None:
                return self._end()
            raise SilentReplicaError(patience.awaited) from None

    def _end(self) -> Pairs:
        """The trailers that a worker did not get to send after its last message."""
        return () if self.usage is None else ((USAGE, self.usage.SerializeToString()),)

    async def _copy(self, upstream: Any, patience: Patience) -> None:
        metadata = await initial_metadata(upstream)
        note_prompt(self._call, metadata)
        while (message := await upstream.read()) is not grpc.aio.EOF:
            patience.heard()
            if self._call.delivered == 0:
                self._call.first_token_at_s = asyncio.get_running_loop().time()
                await send_initial(self._call, metadata)
            await self._deliver(message)
            patience.wait()

    async def _deliver(self, message: bytes) -> None:
        call = self._call
        if self._is_resuming:
            message = without_header(message)
            call.resumed += 1
            self._is_resuming = False
        await write(call, message)
        call.delivered += 1
        call.last_message = message
        if self._delivery is not None:
            self._delivery.note(message)
            call.delivered_tokens = self._delivery.tokens
