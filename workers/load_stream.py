"""xds.service.orca.v3.OpenRcaService: the load report for who asks for it regularly, beside any call.

Owns the streams that are open. The report is the one of the trailers; while nobody listens it
costs nothing. Source: gRFC A51; our copy of its messages: ADR 0005.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

import grpc

from inference_mesh.errors import InvalidInputError, OverloadedError
from inference_mesh.messages import parsed
from inference_mesh.v1.load_report_pb2 import OrcaLoadReportRequest

SERVICE = "xds.service.orca.v3.OpenRcaService"
MOST_LISTENERS = 64
LONGEST_INTERVAL_S = 86_400.0
FULL_RETRY_S = 30.0

Context = grpc.aio.ServicerContext[Any, Any]


class LoadStream:
    """Answers StreamCoreMetrics."""

    def __init__(self, report: Callable[[], bytes], shortest_interval_s: float) -> None:
        """report: the OrcaLoadReport of this moment. shortest_interval_s: between two of one listener."""
        self._report = report
        self._shortest_s = shortest_interval_s
        self._listeners = 0
        self._closed = asyncio.Event()

    @property
    def listeners(self) -> int:
        """Streams that are open."""
        return self._listeners

    def handlers(self) -> grpc.GenericRpcHandler:
        """The method of the service, for a server; over raw bytes."""
        method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(
            self.stream_core_metrics
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamCoreMetrics": method})

    def close(self) -> None:
        """End every stream: an open one would hold up the server's stop."""
        self._closed.set()

    async def stream_core_metrics(self, message: bytes, context: Context) -> AsyncGenerator[bytes]:
        """A report now, and one after each interval. Raises OverloadedError if too many listen."""
        interval_s = self._interval_s(parsed(OrcaLoadReportRequest, message))
        if self._listeners >= MOST_LISTENERS:
            raise OverloadedError(f"{MOST_LISTENERS} listen to the load already", retry_after_s=FULL_RETRY_S)
        self._listeners += 1
        try:
            while not self._closed.is_set():
                yield self._report()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closed.wait(), interval_s)
        finally:
            self._listeners -= 1

    def _interval_s(self, request: OrcaLoadReportRequest) -> float:
        interval = request.report_interval
        asked_s = interval.seconds + interval.nanos / 1e9
        if not 0 <= asked_s <= LONGEST_INTERVAL_S:
            raise InvalidInputError(f"report_interval is {asked_s:g} s; allowed: 0 to {LONGEST_INTERVAL_S:g}")
        return max(asked_s, self._shortest_s)
