"""A real OTLP server that keeps every span it is sent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Kept(NamedTuple):
    """One span, and the name of the service that recorded it."""

    service: str
    span: Any

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.span.name)

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return float(self.span.end_time_unix_nano - self.span.start_time_unix_nano) / 1e9

    @property
    def attributes(self) -> dict[str, Any]:
        """Its attributes; of lists their texts."""
        return {one.key: _value(one.value) for one in self.span.attributes}


class SpanReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Owns what came. arguments: flags that make a process send all its spans here."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []
        self.arguments: tuple[str, ...] = ()

    def Export(self, request: Any, context: Any) -> Any:  # the RPC's name
        """Take spans over."""
        for resource in request.resource_spans:
            attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.kept += [Kept(attributes["service.name"], span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def of(self, trace_id: str) -> list[Kept]:
        """The spans of a trace, in the order of their beginning. trace_id: in hexadecimal."""
        found = [one for one in self.kept if one.span.trace_id.hex() == trace_id]
        return sorted(found, key=lambda one: int(one.span.start_time_unix_nano))

    def text(self) -> str:
        """Every span in words."""
        return "\n".join(f"{one.service} {one.span}" for one in self.kept)


@contextlib.contextmanager
def span_receiver(ratio: float = 1.0) -> Iterator[SpanReceiver]:
    """A receiver for the length of a block. ratio: share of the calls that are to be traced."""
    server = grpc.server(ThreadPoolExecutor(2))
    receiver = SpanReceiver()
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    endpoint = f"http://127.0.0.1:{port}"
    receiver.arguments = ("--otlp-endpoint", endpoint, "--trace-sample-ratio", str(ratio))
    try:
        yield receiver
    finally:
        server.stop(0)


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)
