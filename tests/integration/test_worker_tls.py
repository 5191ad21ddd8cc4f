"""TLS between a gateway and its workers: who connects, and who is refused and why."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.settings import GatewaySettings
from inference_mesh.channels import open_channel
from inference_mesh.client_tls import ClientTls
from inference_mesh.error_status import error_from_rpc
from inference_mesh.errors import UnauthenticatedError, UnavailableError
from inference_mesh.settings import SettingsError, load_settings
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc
from tests.fakes.echo_engine import EchoEngine
from tests.support.certificates import Authority
from tests.support.gateways import (
    entry,
    facts,
    prompt,
    running_gateway,
    running_worker,
    status_of,
)
from tests.support.meshes import ROOT
from tests.support.processes import ProcessGroup, process_group
from tests.support.worker_tls import GATEWAY, answers, gateway_tls, refused, tls_worker, until
from tests.support.workers import ServedWorker, served_worker
from workers.settings import WorkerSettings


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[ProcessGroup]:
    with process_group(tmp_path) as group:
        yield group


async def test_a_gateway_with_the_right_authority_and_certificate_gets_answers(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = gateway_tls(authority, authority.sign("gateway", GATEWAY))
    async with (
        tls_worker(authority, tls_client_ca=authority.path) as worker,
        running_gateway(tmp_path, [entry("echo", worker)], **tls) as running,
    ):
        await answers(running, worker)
        listed = await running.stub.GetModel(inference_pb2.GetModelRequest(model="echo"))
        assert listed.model.runtime == "echo", "the worker was asked, by TLS too"
        assert running.metric(
            "mesh_gateway_certificate_expiry_timestamp_seconds", certificate="worker_tls_cert"
        )


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("plaintext", "it may speak TLS, and worker_tls_ca is not set"),
        ("no certificate", "it may ask for a certificate, and worker_tls_cert is not set"),
        ("another authority's certificate", "it may not trust the certificate worker_tls_cert"),
        (
            "wrong authority",
            "its certificate is not to be trusted by worker_tls_ca: unable to get local issuer",
        ),
        ("wrong name", "its certificate is not for the name elsewhere.example"),
        ("not a gateway", "it does not take this gateway for one"),
    ],
)
async def test_a_worker_that_no_tls_comes_about_with_is_not_ready_and_says_why(
    tmp_path: Path, case: str, reason: str
) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    own, foreign = authority.sign("gateway", GATEWAY), other.sign("foreign", GATEWAY)
    names = "other-gateway.example" if case == "not a gateway" else "gateway.example"
    tls = {
        "plaintext": {},
        "no certificate": gateway_tls(authority),
        "another authority's certificate": gateway_tls(authority, foreign),
        "wrong authority": gateway_tls(other, own),
        "wrong name": {**gateway_tls(authority, own), "worker_tls_name": "elsewhere.example"},
        "not a gateway": gateway_tls(authority, own),
    }[case]
    async with (
        tls_worker(authority, tls_client_ca=authority.path, tls_gateway_names=names) as worker,
        running_gateway(tmp_path, [entry("echo", worker)], **tls) as running,
    ):
        trouble = await refused(running)
        assert trouble.startswith(f"{worker.target}: ")
        assert reason in trouble


async def test_a_worker_without_tls_is_not_ready_for_a_gateway_with_it(tmp_path: Path) -> None:
    async with (
        served_worker(EchoEngine()) as worker,
        running_gateway(tmp_path, [entry("echo", worker)], **gateway_tls(Authority(tmp_path))) as running,
    ):
        assert "does not speak TLS" in await refused(running)


async def test_a_reason_is_logged_once_and_grpcs_own_lines_not_at_all(
    tmp_path: Path, processes: ProcessGroup
) -> None:
    handshakes = 0

    def count(*_: Any) -> None:
        nonlocal handshakes
        handshakes += 1

    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*other.sign_server("worker"))
    context.sni_callback = count
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    models = tmp_path / "models.yaml"
    models.write_text(f"- {{name: echo, endpoints: ['127.0.0.1:{server.sockets[0].getsockname()[1]}']}}")
    async with server:
        tls = ("--worker-tls-ca", str(authority.path), "--worker-tls-name", "worker.example")
        gateway = processes.gateway(models, *tls)
        await until(lambda: handshakes > 5)
    lines = [json.loads(line) for line in gateway.log_text().splitlines()]
    assert [line["reason"] for line in lines if line["event"] == "replica cannot be reached"] == [
        "its certificate is not to be trusted by worker_tls_ca: unable to get local issuer certificate"
    ]


async def test_a_worker_that_refuses_its_gateway_is_no_fault_of_the_caller(tmp_path: Path) -> None:
    async with (
        running_worker("one", label="a") as strict,
        running_worker("one", label="b") as other,
        running_gateway(tmp_path, [entry("one", strict, other)]) as running,
    ):
        await running.wait_until_ready("one", strict, other)
        for _ in range(10):
            answer = await running.stub.Infer(prompt("one", "status=UNAUTHENTICATED only=a"), timeout=5)
            assert facts(answer)["worker"] == "b"
        refusal = await status_of(running.stub.Infer(prompt("one", "status=UNAUTHENTICATED"), timeout=5))
        assert type(error_from_rpc(refusal)) is UnavailableError


async def test_only_the_named_certificates_are_a_gateways(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own, other = authority.sign("gateway", GATEWAY), authority.sign("other", x509.DNSName("jobs.example"))
    names = " first.example, gateway.example"
    async with tls_worker(authority, tls_client_ca=authority.path, tls_gateway_names=names) as worker:
        assert (await direct(worker, ClientTls(authority.path, *own))) == {"Check": None, "Infer": None}
        refusals = await direct(worker, ClientTls(authority.path, *other))
        assert {type(error) for error in refusals.values()} == {UnauthenticatedError}
        assert {str(error) for error in refusals.values()} == {"missing or invalid credentials"}
        nobody = await direct(worker, ClientTls(authority.path))
        assert {type(error) for error in nobody.values()} == {UnavailableError}, "no connection at all"


async def direct(worker: ServedWorker, tls: ClientTls) -> dict[str, Exception | None]:
    """What a caller with these files gets of each method; None = an answer."""
    async with open_channel(worker.target, tls=tls) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        native: Any = inference_pb2_grpc.InferenceServiceStub(channel)
        calls = {
            "Check": health.Check(health_pb2.HealthCheckRequest(service="echo"), timeout=5),
            "Infer": native.Infer(prompt("echo", "hi"), timeout=5),
        }
        found: dict[str, Exception | None] = {}
        for name, call in calls.items():
            try:
                await call
                found[name] = None
            except grpc.aio.AioRpcError as error:
                found[name] = error_from_rpc(error)
        return found


async def test_a_worker_for_gateways_only_runs_no_call_by_plain_http(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    engine = EchoEngine()
    async with (
        tls_worker(authority, engine, tls_client_ca=authority.path) as worker,
        httpx.AsyncClient(base_url=worker.url, trust_env=False) as http,
    ):
        answer = await http.post("/infer", json="hi", headers={"x-request-id": "id-1"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (501, "UNIMPLEMENTED")
        assert answer.json()["error"]["request_id"]
        assert "by gRPC only" in answer.json()["error"]["message"]
        assert engine.requests == []
        assert [(await http.get(path)).status_code for path in ("/healthz", "/readyz", "/metrics")] == [
            200
        ] * 3


async def test_tls_without_a_client_authority_asks_callers_for_nothing(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        tls_worker(authority) as worker,
        running_gateway(tmp_path, [entry("echo", worker)], **gateway_tls(authority)) as running,
        httpx.AsyncClient(base_url=worker.url, trust_env=False) as http,
    ):
        await answers(running, worker)
        assert (await http.post("/infer", json="hi")).status_code == 200


async def test_a_replica_found_by_a_name_has_that_name_in_its_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, private_key = authority.sign("by-name", x509.DNSName("localhost"))
    async with (
        served_worker(EchoEngine(), tls_cert=certificate, tls_key=private_key) as worker,
        running_gateway(tmp_path, [entry("echo", worker)], **gateway_tls(authority)) as running,
    ):
        assert "not for the name 127.0.0.1" in await refused(running)
        port = worker.target.rpartition(":")[2]
        models = tmp_path / "models.yaml"
        models.write_text(f"- {{name: echo, service: 'localhost:{port}'}}")
        await answers(running, worker)


@pytest.mark.parametrize(
    "given",
    [
        {"tls_cert": "a"},
        {"tls_key": "a"},
        {"tls_client_ca": "a"},
        {"tls_gateway_names": "gateway.example"},
        {"tls_cert": "a", "tls_key": "a", "tls_client_ca": "a", "tls_gateway_names": " , "},
    ],
)
def test_parts_of_a_workers_tls_that_say_nothing_alone_stop_the_start(given: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="tls_"):
        load_settings(WorkerSettings, {"model": "a", "name": "a", "runtime": "onnx", **given})


@pytest.mark.parametrize(
    "given",
    [
        {"worker_tls_cert": "a"},
        {"worker_tls_ca": "a", "worker_tls_key": "a"},
        {"worker_tls_cert": "a", "worker_tls_key": "a"},
        {"worker_tls_name": "a"},
    ],
)
def test_parts_of_a_gateways_tls_to_workers_that_say_nothing_alone_stop_the_start(
    given: dict[str, str],
) -> None:
    with pytest.raises(SettingsError, match="worker_tls_"):
        load_settings(GatewaySettings, given)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("gateway", "--worker-tls-ca", "missing.pem"), "missing.pem: cannot be read: "),
        (("gateway", "--worker-tls-cert", "a.pem"), "worker_tls_cert and worker_tls_key belong together"),
        (("workers", "--tls-cert", "missing.pem", "--tls-key", "a.pem"), "cannot be read: "),
        (("workers", "--tls-client-ca", "a.pem"), "tls_client_ca needs tls_cert and tls_key"),
    ],
)
def test_a_wrong_file_or_half_a_setting_stops_a_process_with_a_sentence(
    tmp_path: Path, flags: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "models.yaml").write_text("- {name: one, endpoints: ['127.0.0.1:1']}")
    worker = ("--model", "none.onnx", "--name", "one", "--runtime", "onnx") if flags[0] == "workers" else ()
    ended = subprocess.run(
        [sys.executable, "-m", *flags, "--http-port", "0", "--grpc-port", "0", *worker],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)
    assert sentence in ended.stderr.splitlines()[-1]
