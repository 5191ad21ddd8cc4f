"""Bad input by REST and by gRPC: each a typed error, never a traceback, a hang or a dead process."""

from __future__ import annotations

from typing import Any

import grpc
import httpx
import pytest

from inference_mesh.channels import channel_options
from inference_mesh.config.keys_file import new_key
from inference_mesh.error_status import error_from_rpc
from inference_mesh.errors import InvalidInputError, MeshError, RequestTooLargeError
from tests.e2e.conftest import RunningMesh
from tests.support.processes import IRIS, ProcessGroup, wait_until, write_models_file

FEATURES = {"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
MIB = 1024 * 1024


def _post(mesh: RunningMesh, content: bytes | None = None, **body: Any) -> httpx.Response:
    options: dict[str, Any] = {"json": body} if content is None else {"content": content}
    headers = {"content-type": "application/json"}
    return httpx.post(f"{mesh.bridge.url}/api/infer", headers=headers, timeout=30, **options)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "nobody", "payload": "x"}, 404, "NOT_FOUND"),
        ({"model": "", "payload": "x"}, 400, "INVALID_ARGUMENT"),
        ({"payload": "x"}, 400, "INVALID_ARGUMENT"),
        ({"model": "minilm"}, 400, "INVALID_ARGUMENT"),
        ({"model": "minilm", "payload": {"prompt": "x"}}, 400, "INVALID_ARGUMENT"),
        ({"model": "tiny-chat", "payload": {"texts": ["x"]}}, 400, "INVALID_ARGUMENT"),
        ({"model": "iris", "payload": {"texts": ["x"]}}, 400, "INVALID_ARGUMENT"),
        ({"model": "minilm", "payload": ""}, 400, "INVALID_ARGUMENT"),
        ({"model": "minilm", "payload": {"texts": []}}, 400, "INVALID_ARGUMENT"),
        ({"model": "tiny-chat", "payload": ""}, 400, "INVALID_ARGUMENT"),
        ({"model": "tiny-chat", "payload": {"messages": []}}, 400, "INVALID_ARGUMENT"),
        ({"model": "tiny-chat", "payload": "word " * 5_000}, 400, "INVALID_ARGUMENT"),
        ({"model": "tiny-chat", "payload": {"prompt": "x", "temperature": 99}}, 400, "INVALID_ARGUMENT"),
        ({"model": "tiny-chat", "payload": {"tokens": [4_000_000_000]}}, 400, "INVALID_ARGUMENT"),
        ({"model": "minilm", "payload": "word " * 5_000}, 400, "INVALID_ARGUMENT"),
        (
            {"model": "iris", "payload": {"inputs": [{**FEATURES, "shape": [1, 5], "data": [0] * 5}]}},
            400,
            None,
        ),
        ({"model": "iris", "payload": {"inputs": [{**FEATURES, "datatype": "INT64"}]}}, 400, None),
        ({"model": "iris", "payload": {"inputs": [{**FEATURES, "name": "colour"}]}}, 400, None),
        ({"model": "iris", "payload": {"inputs": [FEATURES], "outputs": ["nothing"]}}, 400, None),
        ({"model": "iris", "payload": {"inputs": [FEATURES]}, "unknown": 1}, 400, None),
        ({"model": "iris", "payload": {"inputs": [FEATURES]}, "version": "9"}, 404, "NOT_FOUND"),
        ({"model": "iris", "payload": {"inputs": [FEATURES]}, "stream": "yes"}, 400, None),
    ],
)
def test_a_wrong_request_is_answered_with_its_own_error(
    mesh: RunningMesh, body: dict[str, Any], status: int, code: str | None
) -> None:
    answer = _post(mesh, **body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code or "INVALID_ARGUMENT"), error
    assert error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"model":"iris","payload":NaN}', 400),
        (b'{"model":"iris","payload":' + b"[" * 1_000 + b"]" * 1_000 + b"}", 400),
        (b"[" * 100_000, 400),
        (b'{"model":"iris","payload":' + b"1" * 5_000 + b"}", 400),
        (b'{"model":"\\ud800","payload":1}', 400),
        (b"\xff\xfe", 400),
        (b'{"model":"minilm","payload":"' + b"a" * (20 * MIB) + b'"}', 413),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else str(value),
)
def test_a_body_that_is_no_request_is_refused(mesh: RunningMesh, content: bytes, status: int) -> None:
    answer = _post(mesh, content)
    assert answer.status_code == status
    assert set(answer.json()["error"]) >= {"code", "message", "request_id"}


async def _raw_call(mesh: RunningMesh, method: str, data: bytes) -> MeshError:
    async with grpc.aio.insecure_channel(
        mesh.gateway.grpc_target, options=channel_options(64 * MIB)
    ) as channel:
        call: Any = channel.unary_unary(method)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(data)
    assert "class" not in (caught.value.details() or "")
    assert "Error" not in (caught.value.details() or "")
    return error_from_rpc(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff",
        b"\x0a\x05ab",
        b"\x0a\x04iris\x22\xff",
        b"\x0a\x04iris\x22\x02\xff\xff",
        b"\x0a\x02\xff\xfe",
        b"",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ],
)
@pytest.mark.parametrize(
    "method", ["/inference_mesh.v1.InferenceService/Infer", "/inference.GRPCInferenceService/ModelInfer"]
)
async def test_malformed_protobuf_is_invalid_argument_without_class_names(
    mesh: RunningMesh, method: str, data: bytes
) -> None:
    assert isinstance(await _raw_call(mesh, method, data), InvalidInputError)


async def test_a_message_over_the_limit_is_resource_exhausted(mesh: RunningMesh) -> None:
    error = await _raw_call(
        mesh, "/inference_mesh.v1.InferenceService/Infer", b"\x0a\x04iris" + b"\0" * (17 * MIB)
    )
    assert isinstance(error, RequestTooLargeError)


async def test_an_unknown_method_is_unimplemented(mesh: RunningMesh) -> None:
    error = await _raw_call(mesh, "/inference_mesh.v1.InferenceService/Dance", b"")
    assert error.code == grpc.StatusCode.UNIMPLEMENTED


def test_missing_and_wrong_keys_read_the_same_and_a_right_one_passes(
    group: ProcessGroup, tmp_path: Any
) -> None:
    plain, stored = new_key()
    other, _ = new_key()
    keys = tmp_path / "keys.yaml"
    keys.write_text(f"keys:\n- {{id: {stored.id}, sha256: {stored.sha256}}}\n")
    worker = group.worker(IRIS, name="iris", runtime="onnx")
    worker.wait_until_ready()
    models = write_models_file(tmp_path / "models.yaml", {"iris": [worker]})
    gateway = group.gateway(models, "--keys", str(keys), "--auth", "required")
    gateway.wait_until_ready()
    bridge = group.bridge(gateway)
    bridge.wait_until_ready()
    body = {"model": "iris", "payload": {"inputs": [FEATURES]}}

    def call(headers: dict[str, str]) -> httpx.Response:
        return httpx.post(f"{bridge.url}/api/infer", json=body, headers=headers)

    wrong_secret = plain[:-1] + ("a" if plain[-1] != "a" else "b")
    refused = [call({}), *(call({"x-api-key": key}) for key in (other, wrong_secret, "x", "mesh_"))]
    assert {answer.status_code for answer in refused} == {401}
    assert len({answer.json()["error"]["message"] for answer in refused}) == 1
    assert call({"x-api-key": plain}).status_code == 200
    assert call({"authorization": f"Bearer {plain}"}).status_code == 200
    assert plain not in gateway.log_text() + bridge.log_text() + worker.log_text()
    keys.write_text("keys: []\n")
    wait_until(lambda: call({"x-api-key": plain}).status_code == 401, "the key is revoked", 5.0)
