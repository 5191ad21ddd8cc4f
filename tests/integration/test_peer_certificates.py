"""Client certificates over real TLS: which names arrive, who is let in, and renewal without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import math
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from gateway.identity.certificate_ends import ends_at_s
from gateway.metrics import GatewayMetrics
from inference_mesh.config.errors import ConfigError
from inference_mesh.peer_certificate import certificate_names
from inference_mesh.pem_files import Pem
from inference_mesh.server_certificates import ServerCertificates
from tests.support.certificates import Authority, serial_of

METHOD = "/test.Names/Ask"


@contextlib.asynccontextmanager
async def serving(certificates: ServerCertificates) -> AsyncIterator[int]:
    """A port whose one method answers the names in the caller's certificate."""

    async def ask(message: bytes, context: Any) -> bytes:
        return "\n".join(certificate_names(context.auth_context())).encode()

    server = grpc.aio.server()
    handlers: dict[str, Any] = {"Ask": grpc.unary_unary_rpc_method_handler(ask)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Names", handlers),))
    port = server.add_secure_port("127.0.0.1:0", certificates.credentials())
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def names_seen(port: int, authority: Authority, client: tuple[Path, Path] | None) -> list[str]:
    pair = {} if client is None else {"certificate_chain": client[0], "private_key": client[1]}
    files = {name: path.read_bytes() for name, path in pair.items()}
    credentials = grpc.ssl_channel_credentials(root_certificates=authority.pem, **files)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        ask: Any = channel.unary_unary(METHOD)
        answer: bytes = await ask(b"", timeout=5)
    return answer.decode().split("\n")


async def test_the_names_of_a_clients_certificate_arrive(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    spiffe = "spiffe://cluster/ns/jobs"
    client = authority.sign("client", x509.UniformResourceIdentifier(spiffe), x509.DNSName("jobs.example"))
    async with serving(ServerCertificates(*authority.sign_server("server"), authority.path)) as port:
        assert set(await names_seen(port, authority, client)) == {spiffe, "jobs.example"}
        assert await names_seen(port, authority, authority.sign("nameless")) == [""]


async def test_a_client_without_a_certificate_of_the_authority_gets_no_answer(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    foreign = stranger.sign("foreign", x509.DNSName("jobs.example"))
    async with serving(ServerCertificates(*authority.sign_server("server"), authority.path)) as port:
        for client in (None, foreign):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await names_seen(port, authority, client)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_without_a_client_authority_a_certificate_says_nothing(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    client = authority.sign("client", x509.DNSName("jobs.example"))
    async with serving(ServerCertificates(*authority.sign_server("server"), None)) as port:
        assert await names_seen(port, authority, client) == [""]
        assert await names_seen(port, authority, None) == [""]


async def test_a_renewed_certificate_serves_the_next_handshake_and_a_broken_one_does_not(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    certificate, private_key = authority.sign_server("server")
    async with serving(ServerCertificates(certificate, private_key, None)) as port:
        first = await served_serial(port)
        authority.sign_server("server")
        second = await served_serial(port)
        certificate.write_text("broken")
        assert await served_serial(port) == second
        other, _ = authority.sign_server("other")
        certificate.write_bytes(other.read_bytes())
        assert await served_serial(port) == second
        authority.sign_server("server")
        third = await served_serial(port)
        assert third == serial_of(certificate.read_bytes())
    assert len({first, second, third}) == 3


async def served_serial(port: int) -> int:
    pem = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port), timeout=5)
    return serial_of(pem.encode())


@pytest.mark.parametrize("wrong", ["no certificate", "no key", "another key", "not PEM", "no authority"])
def test_files_that_cannot_serve_stop_the_start(tmp_path: Path, wrong: str) -> None:
    authority = Authority(tmp_path)
    certificate, private_key = authority.sign_server("server")
    if wrong == "another key":
        private_key = authority.sign_server("other")[1]
    elif wrong == "not PEM":
        certificate.write_text("x")
    else:
        {"no certificate": certificate, "no key": private_key, "no authority": authority.path}[wrong].unlink()
    with pytest.raises(ConfigError):
        ServerCertificates(certificate, private_key, authority.path).credentials()


def test_the_ends_of_the_certificates_are_those_of_the_next_handshake(tmp_path: Path) -> None:
    authority = Authority(tmp_path, life=datetime.timedelta(days=30))
    certificate, private_key = authority.sign_server("server")
    metrics = GatewayMetrics()
    certificates = ServerCertificates(certificate, private_key, authority.path)
    metrics.watch_certificates(lambda: ends_at_s(certificates.next(), "tls_cert", "tls_client_ca"))
    certificates.credentials()
    assert days_left(metrics, "tls_cert") == days_left(metrics, "tls_client_ca") == 30
    authority.life = datetime.timedelta(days=2)
    authority.sign_server("server")
    assert days_left(metrics, "tls_cert") == 2
    certificate.write_text("half a")
    assert days_left(metrics, "tls_cert") == 30, "the last good one stays"


def test_a_certificate_whose_end_cannot_be_read_spoils_no_scrape() -> None:
    (end_s,) = ends_at_s(Pem(b"", b"unreadable", b""), "tls_cert", "tls_client_ca").values()
    assert math.isnan(end_s)


def days_left(metrics: GatewayMetrics, certificate: str) -> int:
    name = "mesh_gateway_certificate_expiry_timestamp_seconds"
    ends_at_s = metrics.registry.get_sample_value(name, {"certificate": certificate})
    assert ends_at_s is not None
    return round((ends_at_s - time.time()) / 86_400)


def test_a_certificate_with_a_flood_of_names_has_none() -> None:
    assert certificate_names({"x509_subject_alternative_name": [b"jobs.example"] * 1000}) == ()
    assert certificate_names({}) == ()
