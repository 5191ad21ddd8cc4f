from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from inference_mesh.channels import open_channel, server_options
from inference_mesh.errors import InvalidInputError, MeshError, OverloadedError
from inference_mesh.status_interceptor import StatusInterceptor, error_from_rpc


class _Servicer:
    """Raises what it is asked to raise, by any of the kinds of handler."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def unary(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        raise _errors()[request]

    async def streaming(
        self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        yield b"first"
        if request == b"forever":
            try:
                await asyncio.Event().wait()
            finally:
                self.closed.set()
        raise _errors()[request]


def _errors() -> dict[bytes, Exception]:
    return {
        b"invalid": InvalidInputError("bad field"),
        b"overloaded": OverloadedError("full", retry_after_s=0.25),
        b"unmapped": KeyError("secret detail"),
    }


@pytest.fixture
async def served() -> AsyncIterator[tuple[grpc.aio.Channel, _Servicer]]:
    servicer = _Servicer()
    server = grpc.aio.server(interceptors=[StatusInterceptor()], options=server_options())
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "t.T",
                {
                    "Unary": grpc.unary_unary_rpc_method_handler(servicer.unary),
                    "Stream": grpc.unary_stream_rpc_method_handler(servicer.streaming),
                },
            ),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        yield channel, servicer
    await server.stop(0)


def _unary(channel: grpc.aio.Channel) -> Any:
    return channel.unary_unary("/t.T/Unary")


def _stream(channel: grpc.aio.Channel) -> Any:
    return channel.unary_stream("/t.T/Stream")


async def _error_of(call: Any) -> MeshError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value)


async def _read_all(call: Any) -> None:
    async for _ in call:
        pass


async def test_a_mesh_error_reaches_the_caller_as_itself(served: tuple[grpc.aio.Channel, _Servicer]) -> None:
    channel, _ = served
    error = await _error_of(_unary(channel)(b"invalid"))
    assert (type(error), error.message) == (InvalidInputError, "bad field")


async def test_a_retry_hint_travels_as_details_and_as_pushback(
    served: tuple[grpc.aio.Channel, _Servicer],
) -> None:
    channel, _ = served
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _unary(channel)(b"overloaded")
    assert error_from_rpc(caught.value).retry_after_s == 0.25
    assert ("grpc-retry-pushback-ms", "250") in tuple(caught.value.trailing_metadata())


async def test_an_unmapped_exception_shows_nothing_of_itself(
    served: tuple[grpc.aio.Channel, _Servicer],
) -> None:
    channel, _ = served
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _unary(channel)(b"unmapped")
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error"


async def test_an_error_in_the_middle_of_a_stream_is_typed(
    served: tuple[grpc.aio.Channel, _Servicer],
) -> None:
    channel, _ = served
    error = await _error_of(_read_all(_stream(channel)(b"invalid")))
    assert type(error) is InvalidInputError


async def test_a_cancelled_stream_closes_its_handler_at_once(
    served: tuple[grpc.aio.Channel, _Servicer],
) -> None:
    channel, servicer = served
    call = _stream(channel)(b"forever")
    assert await call.read() == b"first"
    call.cancel()
    await asyncio.wait_for(servicer.closed.wait(), 0.5)
