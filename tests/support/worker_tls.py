"""Workers behind TLS, gateways that call them, and what those say of each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from cryptography import x509

from inference_mesh.client_tls import ClientTls
from inference_mesh.error_status import error_from_rpc
from inference_mesh.errors import UnavailableError
from tests.fakes.echo_engine import EchoEngine
from tests.support.certificates import Authority
from tests.support.gateways import RunningGateway, prompt, status_of
from tests.support.workers import ServedWorker, served_worker

GATEWAY = x509.DNSName("gateway.example")
LIMIT_S = 20.0


@contextlib.asynccontextmanager
async def tls_worker(
    authority: Authority, engine: EchoEngine | None = None, **settings: Any
) -> AsyncIterator[ServedWorker]:
    """The model "echo" behind TLS; its own certificate is for 127.0.0.1 and worker.example."""
    certificate, private_key = authority.sign_server("worker")
    tls = {"tls_cert": certificate, "tls_key": private_key, **settings}
    async with served_worker(engine or EchoEngine(), tls=ClientTls(authority.path), **tls) as worker:
        yield worker


def gateway_tls(authority: Authority, certificate: tuple[Path, Path] | None = None) -> dict[str, Any]:
    """Settings of a gateway that trusts an authority and shows this certificate."""
    tls = {"worker_tls_ca": authority.path}
    if certificate is None:
        return tls
    return {**tls, "worker_tls_cert": certificate[0], "worker_tls_key": certificate[1]}


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.01)


def told(running: RunningGateway) -> str:
    """What /readyz says of the model."""
    return running.gateway.readiness().detail["model echo"]


async def refused(running: RunningGateway) -> str:
    """Why the worker is not ready; a caller is told that nobody can answer, and no more."""
    await until(lambda: "; " in told(running))
    error = error_from_rpc(await status_of(running.stub.Infer(prompt("echo", "hi"), timeout=5)))
    assert type(error) is UnavailableError
    count, _, trouble = told(running).partition("; ")
    assert count == "0 of 1 replicas ready"
    return trouble


async def answers(running: RunningGateway, worker: ServedWorker) -> None:
    """Wait until the worker is ready, and ask it."""
    await running.wait_until_ready("echo", worker)
    answer = await running.stub.Infer(prompt("echo", "hi"), timeout=5)
    assert answer.output.generate.text == "hi "
