"""A credential of any size is refused in a typed way by every port.

The gateway's own is in test_gateway_identity.
"""

from __future__ import annotations

import httpx
import pytest

from inference_mesh.error_status import error_from_rpc
from inference_mesh.errors import RequestTooLargeError
from inference_mesh.v1 import inference_pb2_grpc
from tests.fakes.echo_engine import EchoEngine
from tests.support.bridge import running_bridge
from tests.support.gateways import prompt, status_of
from tests.support.workers import served_worker

MEGABYTE = 1_000_000


@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
@pytest.mark.parametrize(
    ("characters", "max_header_bytes", "status", "code"),
    [
        (15_900, 16 * 1024, 401, "UNAUTHENTICATED"),
        (MEGABYTE, 16 * 1024, 431, "RESOURCE_EXHAUSTED"),
        (MEGABYTE, 1024 * 1024, 401, "UNAUTHENTICATED"),
    ],
)
async def test_the_bridge_refuses_it_and_serves_on(
    name: str, characters: int, max_header_bytes: int, status: int, code: str
) -> None:
    async with running_bridge(max_header_bytes=max_header_bytes) as bridge:
        refused = await bridge.http.get("/api/models", headers={name: "x" * characters})
        assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
        assert not bridge.gateway.metadata, "the gateway never hears of it"
        assert (await bridge.http.get("/api/models")).status_code == 200


async def test_a_worker_refuses_it_and_serves_on() -> None:
    async with served_worker(EchoEngine()) as worker, httpx.AsyncClient(base_url=worker.url) as http:
        stub: inference_pb2_grpc.InferenceServiceAsyncStub
        stub = inference_pb2_grpc.InferenceServiceStub(worker.channel)
        sent = (("authorization", "Bearer " + "x" * MEGABYTE),)
        refused = await status_of(stub.Infer(prompt("echo", "hello"), metadata=sent, timeout=10))
        assert isinstance(error_from_rpc(refused), RequestTooLargeError)
        assert (await stub.Infer(prompt("echo", "hello"), timeout=10)).model == "echo"
        answer = await http.post("/infer", json="hello", headers=dict(sent))
        assert (answer.status_code, answer.json()["error"]["code"]) == (431, "RESOURCE_EXHAUSTED")
        assert (await http.post("/infer", json="hello")).status_code == 200
