"""Certificates of a gateway and its workers that are renewed while calls run."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from gateway.upstream.endpoints import GrpcEndpoint
from gateway.upstream.worker_connections import WorkerConnections
from inference_mesh.client_tls import ClientTls
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.oip import open_inference_pb2_grpc
from tests.fakes.echo_engine import EchoEngine
from tests.support.certificates import Authority, serial_of
from tests.support.gateways import (
    RunningGateway,
    entry,
    prompt,
    running_gateway,
    running_worker,
    stream_prompt,
)
from tests.support.worker_tls import GATEWAY, answers, gateway_tls, refused, tls_worker, told, until
from tests.support.workers import ServedWorker


async def test_a_running_stream_and_new_calls_outlive_a_renewal_on_both_sides(tmp_path: Path) -> None:
    authority, engine = Authority(tmp_path), EchoEngine()
    tls = gateway_tls(authority, authority.sign("gateway", GATEWAY))
    async with (
        tls_worker(authority, engine, tls_client_ca=authority.path) as worker,
        running_gateway(tmp_path, [entry("echo", worker)], **tls) as running,
    ):
        await running.wait_until_ready("echo", worker)
        first = await served_serial(worker)
        stream = running.stub.InferStream(stream_prompt("echo", "forever and ever"), timeout=60)
        assert (await stream.read()).output.generate.text == "forever "
        (endpoint,) = endpoints_of(running)
        old = endpoint.channel

        authority.sign("gateway", GATEWAY)
        authority.sign_server("worker")
        await until(lambda: endpoint.channel is not old)
        assert await served_serial(worker) not in (first, 0)
        for _ in range(20):
            await answers(running, worker)
        assert old.get_state() is grpc.ChannelConnectivity.READY, "the stream's"

        engine.may_continue.set()
        rest = [piece.output.generate.text for piece in [await stream.read() for _ in range(3)]]
        assert rest == ["and ", "ever ", ""]
        await until(lambda: old.get_state() is grpc.ChannelConnectivity.SHUTDOWN)
        assert await stream.code() is grpc.StatusCode.OK


async def test_a_stream_of_requests_goes_on_when_its_connection_is_replaced(tmp_path: Path) -> None:
    async with (
        running_worker("one") as worker,
        running_gateway(tmp_path, [entry("one", worker)]) as running,
    ):
        await running.wait_until_ready("one", worker)
        stub: Any = open_inference_pb2_grpc.GRPCInferenceServiceStub(running.channel)
        stream = stub.ModelStreamInfer(timeout=30)
        for number in range(4):
            await stream.write(oip.ModelInferRequest(model_name="one", id=str(number)))
            assert (await stream.read()).infer_response.id == str(number)
            running.gateway._parts.fleet.reopen()  # noqa: SLF001  # as where its certificate was renewed
        await stream.done_writing()
        assert await stream.code() is grpc.StatusCode.OK
        assert (await running.stub.Infer(prompt("one"), timeout=5)).model == "one"


async def served_serial(worker: ServedWorker) -> int:
    host, port = worker.target.split(":")
    pem = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)), timeout=5)
    return serial_of(pem.encode())


def endpoints_of(running: RunningGateway) -> tuple[GrpcEndpoint, ...]:
    model = running.gateway._parts.fleet.model("echo")  # noqa: SLF001  # which connection it is, is seen nowhere else
    assert model is not None
    return tuple(one for one in model.pool.endpoints if isinstance(one, GrpcEndpoint))


async def test_a_renewed_certificate_of_the_gateway_is_the_one_that_is_shown(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.sign("gateway", x509.DNSName("former.example"))
    async with (
        tls_worker(authority, tls_client_ca=authority.path, tls_gateway_names="gateway.example") as worker,
        running_gateway(tmp_path, [entry("echo", worker)], **gateway_tls(authority, files)) as running,
    ):
        assert "it does not take this gateway for one" in await refused(running)
        authority.sign("gateway", GATEWAY)
        await answers(running, worker)
        assert told(running) == "1 of 1 replicas ready"


async def test_a_renewed_authority_and_a_certificate_of_it_are_believed_by_both(tmp_path: Path) -> None:
    authority, successor = Authority(tmp_path), Authority(tmp_path, "successor")
    own = authority.sign("gateway", GATEWAY)
    async with tls_worker(authority, tls_client_ca=authority.path) as worker:
        async with running_gateway(
            tmp_path, [entry("echo", worker)], **gateway_tls(authority, own)
        ) as running:
            await answers(running, worker)
            authority.path.write_bytes(authority.pem + successor.pem)
            successor.sign("gateway", GATEWAY)
            successor.sign_server("worker")
            await answers(running, worker)
        async with running_gateway(
            tmp_path, [entry("echo", worker)], **gateway_tls(successor, own)
        ) as running:
            await answers(running, worker)


async def test_files_that_are_not_good_change_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path)
    certificate, private_key = authority.sign("gateway", GATEWAY)
    connections = WorkerConnections(ClientTls(authority.path, certificate, private_key))
    connections.load()
    good, renewals = connections.pem, 0

    def renewed() -> None:
        nonlocal renewals
        renewals += 1

    watching = asyncio.ensure_future(connections.watch(renewed))
    with caplog.at_level(logging.ERROR, "gateway"):
        certificate.write_text("half a certificate")
        await until(lambda: caplog.records)
        assert (connections.pem, renewals) == (good, 0)
        authority.sign("gateway", GATEWAY)
        await until(lambda: renewals)
    assert connections.pem != good
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    watching.cancel()
