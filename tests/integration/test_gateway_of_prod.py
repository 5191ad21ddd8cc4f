"""A real gateway with the settings of overlays/prod, on a cluster where no Secret was made yet."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from inference_mesh.config.keys_file import new_key
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc
from mesh_cli.secret_manifests import KEYS_FILE, keys_text
from tests.support.manifests import config_file, rendered, workloads
from tests.support.mounted_volume import MountedVolume
from tests.support.processes import (
    MeshProcess,
    http_status_of,
    http_text_of,
    process_group,
    wait_until,
)

PROD = "overlays/prod"
MOUNTED = "/etc/mesh"
MODELS_FILE, TENANTS_FILE = "models.yaml", "tenants.yaml"
SEEN_LIMIT_S = 5.0
"""How soon a gateway sees what the kubelet wrote."""


@dataclasses.dataclass(frozen=True)
class Gateway:
    """The process, and the volumes where the kubelet puts the Secret of the keys and the registry."""

    process: MeshProcess
    keys: MountedVolume
    models: MountedVolume

    def status(self) -> int:
        """What the readiness probe gets."""
        return http_status_of(f"{self.process.url}/readyz")

    def detail(self) -> dict[str, str]:
        """What /readyz says beside it."""
        detail: dict[str, str] = json.loads(http_text_of(f"{self.process.url}/readyz"))["detail"]
        return detail

    def code_of_call(self, key: str | None = None) -> grpc.StatusCode:
        """How a call ends, with this key or with none."""
        metadata = () if key is None else (("authorization", f"Bearer {key}"),)
        request = inference_pb2.InferRequest(model="minilm")
        with grpc.insecure_channel(self.process.grpc_target) as channel:
            stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)
            with pytest.raises(grpc.RpcError) as failed:
                stub.Infer(request, metadata=metadata, timeout=5, wait_for_ready=True)
        code: grpc.StatusCode = failed.value.code()
        return code


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """Started with all that the manifest gives it, but on free ports and with volumes in a folder."""
    models = MountedVolume(tmp_path / "models", {MODELS_FILE: content(MODELS_FILE)})
    MountedVolume(tmp_path / "tenants", {TENANTS_FILE: content(TENANTS_FILE)})
    keys = MountedVolume(tmp_path / "keys")
    [workload] = [one for one in workloads(PROD) if one.name == "gateway"]
    given = workload.environment_without_secrets(workload.containers[0])
    moved = {name: value.replace(MOUNTED, str(tmp_path)) for name, value in given.items()}
    ports = {"MESH_GATEWAY_GRPC_PORT": "0", "MESH_GATEWAY_HTTP_PORT": "0", "MESH_GATEWAY_HOST": "127.0.0.1"}
    fast = {"MESH_GATEWAY_DRAIN_DELAY_S": "0", "MESH_GATEWAY_GRACE_S": "1"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}
    with process_group(tmp_path) as group:
        process = group.start("gateway", environment={**inherited, **moved, **ports, **fast})
        process.wait_for_ports()
        yield Gateway(process, keys, models)


def content(file: str) -> str:
    """A file of one of prod's ConfigMaps."""
    return config_file(rendered(PROD), f"gateway-{file.removesuffix('.yaml')}", file)


def test_without_keys_it_lives_refuses_every_call_and_says_why(gateway: Gateway) -> None:
    plain, _ = new_key()
    assert http_status_of(f"{gateway.process.url}/healthz") == 200
    assert gateway.status() == 503
    assert "every call is refused" in gateway.detail()["keys"]
    assert KEYS_FILE in gateway.detail()["keys"]
    assert gateway.code_of_call() == grpc.StatusCode.UNAUTHENTICATED
    assert gateway.code_of_call(plain) == grpc.StatusCode.UNAUTHENTICATED
    events = [json.loads(line) for line in gateway.process.log_text().splitlines()]
    [told] = [event for event in events if "every call is refused" in event["event"]]
    assert KEYS_FILE in told["reason"]


def test_keys_are_seen_within_seconds_of_the_kubelets_writing_them(gateway: Gateway) -> None:
    plain, key = new_key()
    gateway.keys.replace({KEYS_FILE: keys_text([key])})
    wait_until(lambda: gateway.status() == 200, "ready with keys", SEEN_LIMIT_S)
    # No worker is there, which only who is let in gets to know.
    assert gateway.code_of_call(plain) == grpc.StatusCode.UNAVAILABLE
    assert gateway.code_of_call() == grpc.StatusCode.UNAUTHENTICATED

    gateway.keys.replace({KEYS_FILE: keys_text([])})
    wait_until(
        lambda: gateway.code_of_call(plain) is grpc.StatusCode.UNAUTHENTICATED, "revoked", SEEN_LIMIT_S
    )
    assert gateway.status() == 503


def test_a_secret_that_is_deleted_takes_no_key_back(gateway: Gateway) -> None:
    plain, key = new_key()
    gateway.keys.replace({KEYS_FILE: keys_text([key])})
    wait_until(lambda: gateway.status() == 200, "ready with keys", SEEN_LIMIT_S)
    gateway.keys.replace({})
    wait_until(lambda: KEYS_FILE in gateway.detail()["keys"], "the loss is told", SEEN_LIMIT_S)
    assert gateway.status() == 200
    assert gateway.code_of_call(plain) == grpc.StatusCode.UNAVAILABLE


def test_without_redis_it_is_ready_and_says_that_limits_are_degraded(gateway: Gateway) -> None:
    _, key = new_key()
    gateway.keys.replace({KEYS_FILE: keys_text([key])})
    wait_until(lambda: gateway.status() == 200, "ready with keys", SEEN_LIMIT_S)
    wait_until(lambda: gateway.detail()["limits"].startswith("degraded"), "Redis is missed", SEEN_LIMIT_S)
    assert gateway.status() == 200


def test_a_registry_that_the_kubelet_swaps_is_live_within_seconds(gateway: Gateway) -> None:
    more = "  - name: summarizer\n    service: summarizer.ai-models.svc.cluster.local\n"
    gateway.models.replace({MODELS_FILE: content(MODELS_FILE) + more})
    wait_until(lambda: "model summarizer" in gateway.detail(), "the new model is known", SEEN_LIMIT_S)
    assert {"model tiny-chat", "model minilm"} <= gateway.detail().keys()
