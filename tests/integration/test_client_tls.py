"""TLS from each of the mesh's own clients to a gateway: the Python client, the bridge and `mesh`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cryptography import x509

from inference_mesh.client import MeshClient
from inference_mesh.client_tls import ClientTls
from inference_mesh.config.errors import ConfigError
from inference_mesh.errors import UnauthenticatedError, UnavailableError
from inference_mesh.settings import SettingsError, load_settings
from mesh_cli.tls_probe import handshake_problem
from rest_bridge.server import BridgeService
from rest_bridge.settings import BridgeSettings
from tests.support.certificates import Authority
from tests.support.gateways import entry, running_gateway, running_worker
from tests.support.meshes import ROOT, mesh

SAN = x509.DNSName("jobs.example")


@contextlib.asynccontextmanager
async def tls_gateway(folder: Path, authority: Authority, **settings: Any) -> AsyncIterator[str]:
    """A gateway with TLS and the model "one" ready; its address."""
    certificate, private_key = authority.sign_server("server")
    async with running_worker("one") as worker:
        tls = {"tls_cert": certificate, "tls_key": private_key}
        async with running_gateway(folder, [entry("one", worker)], **tls, **settings) as running:
            await running.wait_until_ready("one", worker)
            yield f"127.0.0.1:{running.gateway.grpc_port}"


def mutual(folder: Path, authority: Authority) -> dict[str, Any]:
    """Settings of a gateway that knows its callers by certificate: jobs.example is the tenant "jobs"."""
    tenants = folder / "tenants.yaml"
    tenants.write_text(yaml.safe_dump({"tenants": [{"name": "jobs", "certificates": ["jobs.example"]}]}))
    return {"tenants": tenants, "tls_client_ca": authority.path}


@contextlib.asynccontextmanager
async def bridge(target: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    service = BridgeService(load_settings(BridgeSettings, {"gateway": target, "http_port": 0, **settings}))
    await service.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", trust_env=False) as client:
            yield client
    finally:
        await service.stop(0.0)


async def listed(target: str, *options: str | Path) -> tuple[int, str, str]:
    """What `mesh models list` did: exit code, output, and the last line of standard error."""
    words = ("models", "list", "--target", target, *map(str, options))
    ended = await asyncio.to_thread(mesh, *words)
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stdout, (ended.stderr.strip().splitlines() or [""])[-1]


async def test_the_python_client_speaks_tls(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    async with tls_gateway(tmp_path, authority) as target:
        async with MeshClient(target, tls=ClientTls(authority.path)) as client:
            assert (await client.infer("one", "a text")).model == "one"
        async with MeshClient(target, tls=ClientTls(authority.path, name="server.example")) as client:
            assert [model.name for model in await client.models()] == ["one"]
        for tls in (None, ClientTls(other.path), ClientTls(authority.path, name="elsewhere.example")):
            async with MeshClient(target, tls=tls) as client:
                with pytest.raises(UnavailableError):
                    await client.models()


async def test_the_python_client_is_known_by_its_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own, nameless = authority.sign("client", SAN), authority.sign("nameless")
    async with tls_gateway(tmp_path, authority, **mutual(tmp_path, authority)) as target:
        async with MeshClient(target, tls=ClientTls(authority.path, *own)) as client:
            assert (await client.explain("one")).tenant == "jobs"
        async with MeshClient(target, tls=ClientTls(authority.path, *nameless)) as client:
            with pytest.raises(UnauthenticatedError):
                await client.models()
        async with MeshClient(target, tls=ClientTls(authority.path)) as client:
            with pytest.raises(UnavailableError):
                await client.models()


async def test_the_bridge_speaks_tls(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    request = {"model": "one", "payload": "a text"}
    async with tls_gateway(tmp_path, authority) as target:
        async with bridge(target, gateway_tls_ca=authority.path) as rest:
            assert (await rest.get("/readyz")).status_code == 200
            assert (await rest.post("/api/infer", json=request)).json()["model"] == "one"
        async with bridge(target, gateway_tls_ca=other.path) as rest:
            assert (await rest.get("/readyz")).json()["detail"] == {"gateway": "UNREACHABLE"}
            refused = await rest.post("/api/infer", json=request)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "UNAVAILABLE")


async def test_the_bridge_shows_its_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, private_key = authority.sign("client", SAN)
    async with tls_gateway(tmp_path, authority, **mutual(tmp_path, authority)) as target:
        own = {"gateway_tls_cert": certificate, "gateway_tls_key": private_key}
        async with bridge(target, gateway_tls_ca=authority.path, **own) as rest:
            assert (await rest.get("/api/models")).status_code == 200
        async with bridge(target, gateway_tls_ca=authority.path) as rest:
            assert (await rest.get("/api/models")).status_code == 503


async def test_a_command_speaks_tls_and_says_what_is_wrong(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    async with tls_gateway(tmp_path, authority) as target:
        code, output, _ = await listed(target, "--tls-ca", authority.path)
        assert (code, "one" in output) == (0, True)
        code, _, error = await listed(target, "--tls-ca", other.path)
        assert code == 1
        assert error.startswith(f"error: UNAVAILABLE no connection to {target}: its certificate is not")
        code, _, error = await listed(target)
        assert (code, "--tls-ca" in error) == (1, True)
        missing = tmp_path / "missing.pem"
        code, _, error = await listed(target, "--tls-ca", missing)
        assert (code, error.startswith(f"{missing}: ")) == (2, True)
        code, _, error = await listed(target, "--tls-cert", missing)
        assert (code, "--tls-key" in error) == (2, True)


async def test_a_command_shows_its_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, private_key = authority.sign("client", SAN)
    async with tls_gateway(tmp_path, authority, **mutual(tmp_path, authority)) as target:
        trust = ("--tls-ca", authority.path)
        code, output, _ = await listed(target, *trust, "--tls-cert", certificate, "--tls-key", private_key)
        assert (code, "one" in output) == (0, True)
        code, _, error = await listed(target, *trust)
        assert (code, "--tls-cert" in error) == (1, True)


async def test_a_handshake_that_fails_is_told_from_one_that_is_not_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    foreign = Authority(tmp_path, "other").sign("foreign")
    trusting = ClientTls(authority.path)
    async with tls_gateway(tmp_path, authority, **mutual(tmp_path, authority)) as target:
        port = int(target.rpartition(":")[2])
        told = await asyncio.to_thread(
            handshake_problem, "127.0.0.1", port, ClientTls(authority.path, *foreign)
        )
        assert told == "it refuses the client's certificate"
    async with running_worker("one") as plain:
        assert await asyncio.to_thread(handshake_problem, "127.0.0.1", plain.port, None) is None
        told = await asyncio.to_thread(handshake_problem, "127.0.0.1", plain.port, trusting)
        assert told == "it does not speak TLS; leave --tls-ca out"
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        assert await asyncio.to_thread(handshake_problem, "127.0.0.1", port, trusting) is None


@pytest.mark.parametrize(
    "wrong", ["no authority", "authority", "no certificate", "certificate", "key", "other key"]
)
def test_a_file_that_is_missing_or_wrong_is_named(tmp_path: Path, wrong: str) -> None:
    authority = Authority(tmp_path)
    certificate, private_key = authority.sign("client")
    path = {"authority": authority.path, "certificate": certificate, "key": private_key}[
        wrong.removeprefix("no ").removeprefix("other ")
    ]
    if wrong.startswith("no "):
        path.unlink()
    elif wrong == "other key":
        path.write_bytes(authority.sign("other")[1].read_bytes())
    else:
        path.write_text("half a file")
    with pytest.raises(ConfigError) as caught:
        ClientTls(authority.path, certificate, private_key).credentials()
    assert caught.value.source == str(path)


@pytest.mark.parametrize(
    "given",
    [
        {"gateway_tls_cert": "a"},
        {"gateway_tls_ca": "a", "gateway_tls_key": "a"},
        {"gateway_tls_cert": "a", "gateway_tls_key": "a"},
        {"gateway_tls_name": "a"},
    ],
)
def test_parts_of_the_bridges_tls_that_say_nothing_alone_stop_the_start(given: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(BridgeSettings, given)
    assert "gateway_tls_" in str(caught.value)


@pytest.mark.parametrize(
    ("service", "flags"),
    [
        ("gateway", ("--tls-cert", "missing.pem", "--tls-key", "missing.key", "--grpc-port", "0")),
        ("rest_bridge", ("--gateway-tls-ca", "missing.pem")),
    ],
)
def test_a_missing_file_stops_the_start_with_a_sentence(
    tmp_path: Path, service: str, flags: tuple[str, ...]
) -> None:
    (tmp_path / "models.yaml").write_text("- {name: one, endpoints: ['127.0.0.1:1']}")
    ended = subprocess.run(
        [sys.executable, "-m", service, "--http-port", "0", *flags],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)
    assert "missing.pem: cannot be read" in ended.stderr.splitlines()[-1]
