"""A collector of traces that does not answer: no reason for a process to hang, or to fail."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from inference_mesh.v1 import inference_pb2, inference_pb2_grpc
from tests.support.gateways import write_models
from tests.support.processes import process_group


@pytest.fixture
def silent() -> Iterator[str]:
    """An endpoint that takes connections and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_process_with_spans_to_send_stops_in_time_and_well(tmp_path: Path, silent: str) -> None:
    write_models(tmp_path / "models.yaml", [{"name": "one", "endpoints": ["127.0.0.1:1"]}])
    with process_group(tmp_path) as group:
        flags = ("--otlp-endpoint", silent, "--trace-sample-ratio", "1")
        gateway = group.gateway(tmp_path / "models.yaml", *flags)
        gateway.wait_until_ready()
        with grpc.insecure_channel(gateway.grpc_target) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            with pytest.raises(grpc.RpcError):
                stub.Infer(inference_pb2.InferRequest(model="one"), timeout=5)
        started = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - started < 8
        log = gateway.log_text()
    assert "Traceback" not in log
    assert "traces lost" in log
