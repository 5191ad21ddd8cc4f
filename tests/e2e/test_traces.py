"""Traces of a call through all three processes, received by a real OTLP server; and what is in no trace."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.support.processes import TINY_CHAT, ProcessGroup, http_text_of, write_models_file

CANARY = "canary-3f9a1c"


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span, with the name of its service."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []

    def Export(self, request: Any, context: Any) -> Any:  # the RPC's name
        """Take spans over."""
        for resource in request.resource_spans:
            attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(attributes["service.name"], span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, str]]:
    """A receiver, and its endpoint."""
    server = grpc.server(ThreadPoolExecutor(2))
    kept = Receiver()
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(kept, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield kept, f"http://127.0.0.1:{port}"
    server.stop(0)


def test_one_call_is_one_trace_of_three_services_and_shows_nothing_of_the_prompt(
    group: ProcessGroup, tmp_path: Path, receiver: tuple[Receiver, str]
) -> None:
    kept, endpoint = receiver
    otlp = ("--otlp-endpoint", endpoint)
    worker = group.worker(TINY_CHAT, *otlp, name="tiny-chat", runtime="llama")
    worker.wait_until_ready()
    models = write_models_file(tmp_path / "models.yaml", {"tiny-chat": [worker]})
    gateway = group.gateway(models, *otlp)
    gateway.wait_until_ready()
    bridge = group.bridge(gateway, *otlp)
    bridge.wait_until_ready()
    payload = {"messages": [{"role": "user", "content": f"Who are you? {CANARY}"}], "max_tokens": 8}
    answer = httpx.post(
        f"{bridge.url}/api/infer",
        json={"model": "tiny-chat", "payload": payload},
        headers={"x-api-key": f"mesh_{CANARY}"},
    )
    assert answer.status_code == 200, answer.text
    pages = "".join(http_text_of(f"{process.url}/metrics") for process in (worker, gateway, bridge))
    for process in (bridge, gateway, worker):
        assert process.stop() == 0

    of_the_call = [(name, span) for name, span in kept.spans if span.trace_id == _root(kept).trace_id]
    services = {name for name, _ in of_the_call}
    assert {"rest-bridge", "gateway", "worker-tiny-chat"} <= services
    ids = {span.span_id for _, span in of_the_call}
    orphans = [span.name for _, span in of_the_call if span.parent_span_id and span.parent_span_id not in ids]
    assert orphans == []
    logs = "".join(process.log_text() for process in (bridge, gateway, worker))
    for what, text in (("logs", logs), ("metrics", pages), ("spans", str(kept.spans))):
        assert CANARY not in text, what


def _root(kept: Receiver) -> Any:
    """The bridge's span of POST /api/infer."""
    found = [span for name, span in kept.spans if name == "rest-bridge" and "infer" in span.name]
    assert len(found) == 1, [span.name for _, span in kept.spans]
    return found[0]
