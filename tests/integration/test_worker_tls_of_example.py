"""A real gateway and a real worker with the settings of examples/worker-tls, and a Secret for each."""

from __future__ import annotations

import dataclasses
import os
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import httpx
import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from inference_mesh.config.keys_file import new_key
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2
from mesh_cli.secret_manifests import KEYS_FILE, keys_text
from tests.support.certificates import Authority, serial_of
from tests.support.manifests import Workload, config_file, rendered, workloads
from tests.support.mounted_volume import MountedVolume
from tests.support.processes import TINY_CHAT, MeshProcess, ProcessGroup, process_group, wait_until

EXAMPLE = "examples/worker-tls"
MODEL = "tiny-chat"
WORKERS, GATEWAYS = x509.DNSName("workers.ai-models"), x509.DNSName("gateways.ai-gateway")
SEEN_LIMIT_S = 20.0


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Both processes, their Secrets, and a key that the gateway knows."""

    gateway: MeshProcess
    worker: MeshProcess
    authority: Authority
    worker_secret: MountedVolume
    gateway_secret: MountedVolume
    key: str

    def ask(self) -> grpc.StatusCode:
        """How a call through the gateway ends."""
        payload = payload_pb2.Payload(generate=payload_pb2.Generate(prompt="Hi", max_tokens=2))
        request = inference_pb2.InferRequest(model=MODEL, payload=payload)
        with grpc.insecure_channel(self.gateway.grpc_target) as channel:
            stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)
            try:
                stub.Infer(request, metadata=(("authorization", f"Bearer {self.key}"),), timeout=10)
            except grpc.RpcError as error:
                code: grpc.StatusCode = error.code()
                return code
            return grpc.StatusCode.OK

    def told(self) -> str:
        """What the gateway's /readyz says of the model."""
        return str(httpx.get(f"{self.gateway.url}/readyz", timeout=5).json()["detail"][f"model {MODEL}"])

    def shown_serial(self) -> int:
        """Of the certificate that the worker shows to whoever connects."""
        return serial_of(ssl.get_server_certificate(("127.0.0.1", self.worker.grpc), timeout=5).encode())

    def is_answered(self) -> bool:
        """Whether a call through the gateway is."""
        return self.ask() is grpc.StatusCode.OK


def secret(
    authority: Authority, name: str, own: x509.DNSName, usage: x509.ObjectIdentifier
) -> dict[str, str]:
    """A Secret of a Certificate, whose authority is that of the other side as well."""
    certificate, private_key = authority.sign(name, own, usage=usage)
    files = {"tls.crt": certificate, "tls.key": private_key, "ca.crt": authority.path}
    return {key: path.read_text() for key, path in files.items()}


def started(group: ProcessGroup, workload: Workload, module: str, moved: Mapping[str, str]) -> MeshProcess:
    """With all that the manifest gives it, but on free ports. moved: paths of the pod and those here."""
    prefix = "MESH_WORKER" if module == "workers" else "MESH_GATEWAY"
    given = workload.environment_without_secrets(workload.containers[0])
    for old, new in moved.items():
        given = {name: value.replace(old, new) for name, value in given.items()}
    own = {"GRPC_PORT": "0", "HTTP_PORT": "0", "HOST": "127.0.0.1", "DRAIN_DELAY_S": "0", "GRACE_S": "1"}
    fast = {f"{prefix}_{name}": value for name, value in own.items()}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}
    process = group.start(module, environment={**inherited, **given, **fast})
    process.wait_for_ports()
    return process


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """As after `kubectl apply -k examples/worker-tls`, with both Secrets there."""
    tmp_path = tmp_path_factory.mktemp("mesh")
    authority = Authority(tmp_path)
    worker_secret = MountedVolume(
        tmp_path / "tls", secret(authority, "worker", WORKERS, ExtendedKeyUsageOID.SERVER_AUTH)
    )
    gateway_secret = MountedVolume(
        tmp_path / "worker-tls", secret(authority, "gateway", GATEWAYS, ExtendedKeyUsageOID.CLIENT_AUTH)
    )
    tenants = config_file(rendered(EXAMPLE), "gateway-tenants", "tenants.yaml")
    MountedVolume(tmp_path / "tenants", {"tenants.yaml": tenants})
    plain, key = new_key()
    MountedVolume(tmp_path / "keys", {KEYS_FILE: keys_text([key])})
    there = {one.name: one for one in workloads(EXAMPLE)}
    with process_group(tmp_path) as group:
        worker = started(
            group,
            there["llm"],
            "workers",
            {"/models/tiny-chat.gguf": str(TINY_CHAT), "/etc/mesh": str(tmp_path)},
        )
        worker.wait_until_ready()
        entry = {"name": MODEL, "endpoints": [worker.grpc_target]}
        MountedVolume(tmp_path / "models", {"models.yaml": yaml.safe_dump({"version": 1, "models": [entry]})})
        gateway = started(group, there["gateway"], "gateway", {"/etc/mesh": str(tmp_path)})
        yield Mesh(gateway, worker, authority, worker_secret, gateway_secret, plain)


def test_calls_are_answered_by_a_worker_that_takes_nobody_but_a_gateway(mesh: Mesh) -> None:
    wait_until(mesh.is_answered, "an answer by TLS", SEEN_LIMIT_S)
    assert mesh.told() == "1 of 1 replicas ready"
    request = inference_pb2.InferRequest(model=MODEL)
    strangers = {
        "no TLS": grpc.insecure_channel(mesh.worker.grpc_target),
        "no certificate": grpc.secure_channel(
            mesh.worker.grpc_target,
            grpc.ssl_channel_credentials(mesh.authority.pem),
            (("grpc.ssl_target_name_override", WORKERS.value),),
        ),
    }
    for who, channel in strangers.items():
        stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)
        with channel, pytest.raises(grpc.RpcError) as failed:
            stub.Infer(request, timeout=5)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE, who


def test_another_certificate_of_the_same_authority_is_no_gateways(mesh: Mesh) -> None:
    wait_until(mesh.is_answered, "an answer by TLS", SEEN_LIMIT_S)
    other = x509.DNSName("jobs.ai-models")
    mesh.gateway_secret.replace(secret(mesh.authority, "jobs", other, ExtendedKeyUsageOID.CLIENT_AUTH))
    wait_until(lambda: not mesh.is_answered(), "the refusal", SEEN_LIMIT_S)
    assert "it does not take this gateway for one" in mesh.told()

    mesh.gateway_secret.replace(secret(mesh.authority, "gateway", GATEWAYS, ExtendedKeyUsageOID.CLIENT_AUTH))
    wait_until(mesh.is_answered, "an answer after all", SEEN_LIMIT_S)


def test_probes_and_metrics_stay_plain_and_infer_over_http_is_closed(mesh: Mesh) -> None:
    for process in (mesh.gateway, mesh.worker):
        pages = [
            httpx.get(f"{process.url}{path}", timeout=5).status_code for path in ("/healthz", "/metrics")
        ]
        assert pages == [200, 200]
    assert httpx.get(f"{mesh.worker.url}/readyz", timeout=5).status_code == 200
    assert httpx.post(f"{mesh.worker.url}/infer", json="Hi", timeout=5).status_code == 501


def test_renewed_secrets_are_taken_without_a_restart(mesh: Mesh) -> None:
    wait_until(mesh.is_answered, "an answer by TLS", SEEN_LIMIT_S)
    before = mesh.shown_serial()
    mesh.worker_secret.replace(secret(mesh.authority, "worker", WORKERS, ExtendedKeyUsageOID.SERVER_AUTH))
    mesh.gateway_secret.replace(secret(mesh.authority, "gateway", GATEWAYS, ExtendedKeyUsageOID.CLIENT_AUTH))
    refused = 0

    def is_renewed() -> bool:
        nonlocal refused
        refused += not mesh.is_answered()
        return mesh.shown_serial() != before

    wait_until(is_renewed, "the new certificate", SEEN_LIMIT_S)
    assert (refused, mesh.is_answered()) == (0, True)
