"""The two doors of a server: a gRPC channel and an HTTP client, opened once for a suite."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import grpc
import httpx

from conformance.checks import BreachError
from conformance.subject import Subject
from inference_mesh.channels import open_channel
from inference_mesh.errors import UnavailableError

T = TypeVar("T")
Metadata = tuple[tuple[str, str], ...]

WRONG_KEY = "mesh_conformance_this-key-does-not-exist"
LONGEST_CONNECT_S = 10.0


@asynccontextmanager
async def open_grpc(subject: Subject) -> AsyncIterator[grpc.aio.Channel]:
    """A connected channel. Raises UnavailableError if nobody speaks gRPC there."""
    async with open_channel(subject.grpc_target, tls=subject.tls) as channel:
        try:
            async with asyncio.timeout(min(subject.timeout_s, LONGEST_CONNECT_S)):
                await channel.channel_ready()
        except TimeoutError:
            raise UnavailableError(f"no gRPC server answers at {subject.grpc_target}") from None
        yield channel


@asynccontextmanager
async def open_http(subject: Subject) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose paths begin at the server's root. Raises UnavailableError if nobody answers."""
    headers = {"authorization": f"Bearer {subject.api_key}"} if subject.api_key else {}
    async with httpx.AsyncClient(
        base_url=subject.url,
        headers=headers,
        timeout=subject.timeout_s,
        trust_env=False,
        verify=_trust(subject),
    ) as http:
        try:
            await http.get("/", timeout=min(subject.timeout_s, LONGEST_CONNECT_S))
        except httpx.HTTPError as error:
            seen = f"{type(error).__name__} {error}".rstrip()
            raise UnavailableError(f"no HTTP server answers at {subject.url}: {seen}") from None
        yield http


def metadata_of(api_key: str | None) -> Metadata:
    """What a gRPC call carries to say who asks."""
    return (("authorization", f"Bearer {api_key}"),) if api_key else ()


async def refused(call: Awaitable[T], *allowed: grpc.StatusCode) -> grpc.aio.AioRpcError:
    """The error that a call ends with. Raises BreachError if it is answered, or ends otherwise."""
    names = " or ".join(code.name for code in allowed)
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if error.code() not in allowed:
            raise BreachError(
                f"ended with {error.code().name} ({error.details()}); {names} was expected"
            ) from None
        return error
    raise BreachError(f"was answered; {names} was expected")


async def is_implemented(call: Awaitable[T]) -> bool:
    """Whether a gRPC method exists, whatever else its call ends with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code() is not grpc.StatusCode.UNIMPLEMENTED
    return True


def _trust(subject: Subject) -> ssl.SSLContext | bool:
    if subject.tls is None:
        return True
    context = ssl.create_default_context(cafile=str(subject.tls.ca))
    if subject.tls.cert is not None:
        context.load_cert_chain(str(subject.tls.cert), str(subject.tls.key))
    return context
