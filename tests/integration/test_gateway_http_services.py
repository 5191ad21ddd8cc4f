"""Models that are HTTP services, in any language: a real HTTP server on a thread stands for one."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from inference_mesh.error_status import error_from_rpc
from inference_mesh.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidInputError,
    MeshError,
    OverloadedError,
    PayloadMismatchError,
    UnavailableError,
    UnsupportedError,
)
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.oip import open_inference_pb2_grpc as oip_grpc
from inference_mesh.v1 import inference_pb2, payload_pb2
from tests.support.gateways import prompt, running_gateway, status_of, stream_prompt


class Service(http.server.BaseHTTPRequestHandler):
    """Answers what it was told: the request's "status" and "size", else an echo."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "wait" in asked:
            threading.Event().wait(asked["wait"])
        body = json.dumps({"asked": asked, "path": self.path, "headers": dict(self.headers)}).encode()
        self.answer(asked.get("status", 200), body + b" " * asked.get("size", 0))

    def do_GET(self) -> None:
        self.answer(404, b"")

    def answer(self, status: int, body: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            if status == 429:
                self.send_header("retry-after", "7")
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps quiet."""


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def models(*ports: int) -> list[dict[str, Any]]:
    return [{"name": "adder", "endpoints": [f"127.0.0.1:{port}" for port in ports], "path": "/infer"}]


def request(document: object) -> inference_pb2.InferRequest:
    payload = payload_pb2.Payload(json=json.dumps(document).encode())
    return inference_pb2.InferRequest(model="adder", payload=payload, request_id="id-1")


async def test_three_lines_in_the_registry_make_a_model_of_an_http_service(tmp_path: Path, port: int) -> None:
    three_lines = [{"name": "adder", "service": f"127.0.0.1:{port}", "path": "/infer"}]
    async with running_gateway(tmp_path, three_lines) as mesh:
        sent = (("x-api-key", "secret"), ("x-mesh-tenant", "a"), ("x-user-id", "a"), ("x-team", "blue"))
        answer = await mesh.stub.Infer(request({"a": 1}), metadata=sent)
        model = (await mesh.stub.GetModel(inference_pb2.GetModelRequest(model="adder"))).model
    told = json.loads(answer.output.json)
    headers = {name.lower(): value for name, value in told["headers"].items()}
    assert (told["asked"], told["path"]) == ({"a": 1}, "/infer")
    assert (answer.model, answer.request_id) == ("adder", "id-1")
    assert headers["x-request-id"] == "id-1"
    assert not {"x-api-key", "x-user-id", "x-team"} & set(headers), "nothing of the client's passes"
    assert headers["x-mesh-tenant"] != "a"
    assert (model.task, model.runtime, model.ready) == (payload_pb2.TASK_JSON, "http", True)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidInputError),
        (404, InvalidInputError),
        (429, OverloadedError),
        (500, InternalError),
        (502, UnavailableError),
        (503, UnavailableError),
        (504, DeadlineExceededError),
    ],
)
async def test_an_http_status_becomes_a_typed_error(
    tmp_path: Path, port: int, status: int, error: type[MeshError]
) -> None:
    async with running_gateway(tmp_path, models(port)) as mesh:
        found = error_from_rpc(await status_of(mesh.stub.Infer(request({"status": status}))))
    assert type(found) is error
    assert (found.retry_after_s == 7) == (status == 429)


async def test_only_json_is_taken_and_streams_are_not(tmp_path: Path, port: int) -> None:
    async with running_gateway(tmp_path, models(port)) as mesh:
        wrong = error_from_rpc(await status_of(mesh.stub.Infer(prompt("adder", "text"))))
        none = error_from_rpc(await status_of(mesh.stub.Infer(inference_pb2.InferRequest(model="adder"))))
        stream = error_from_rpc(await status_of(mesh.stub.InferStream(stream_prompt("adder"))))
        stub: Any = oip_grpc.GRPCInferenceServiceStub(mesh.channel)
        tensors = error_from_rpc(await status_of(stub.ModelInfer(oip.ModelInferRequest(model_name="adder"))))
    assert isinstance(wrong, PayloadMismatchError)
    assert isinstance(none, InvalidInputError)
    assert isinstance(stream, UnsupportedError)
    assert isinstance(tensors, UnsupportedError)


async def test_an_answer_over_the_limit_is_not_held(tmp_path: Path, port: int) -> None:
    async with running_gateway(tmp_path, models(port), max_message_bytes=10_000) as mesh:
        status = await status_of(mesh.stub.Infer(request({"size": 50_000})))
    assert status.code() is grpc.StatusCode.INTERNAL


async def test_the_deadline_ends_a_slow_service(tmp_path: Path, port: int) -> None:
    slow = [{**models(port)[0], "timeout_s": 0.2}]
    async with running_gateway(tmp_path, slow) as mesh:
        found = error_from_rpc(await status_of(mesh.stub.Infer(request({"wait": 2}))))
    assert isinstance(found, DeadlineExceededError)


async def test_a_service_that_is_down_is_unavailable(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, models(9)) as mesh:
        found = error_from_rpc(await status_of(mesh.stub.Infer(request({}))))
    assert isinstance(found, UnavailableError)
