from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from inference_mesh.channels import open_channel, server_options
from inference_mesh.error_status import error_from_rpc, error_from_status
from inference_mesh.errors import (
    InvalidInputError,
    MeshError,
    OverloadedError,
    QuotaViolation,
    TokenBudgetError,
)
from inference_mesh.status_interceptor import StatusInterceptor

REACHED = (QuotaViolation("key:ab:tokens", "9 tokens in 1 s"), QuotaViolation("model:m:tokens", "8"))


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
        b"quota": TokenBudgetError("spent", retry_after_s=0.0004, violations=REACHED),
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


async def test_the_limits_that_were_reached_travel_as_quota_failure(
    served: tuple[grpc.aio.Channel, _Servicer],
) -> None:
    channel, _ = served
    error = await _error_of(_unary(channel)(b"quota"))
    assert (type(error), error.violations) == (TokenBudgetError, REACHED)


async def test_a_pushback_is_never_earlier_than_the_hint(served: tuple[grpc.aio.Channel, _Servicer]) -> None:
    channel, _ = served
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _unary(channel)(b"quota")
    assert ("grpc-retry-pushback-ms", "1") in tuple(caught.value.trailing_metadata())


def test_damaged_details_leave_the_code_and_the_message() -> None:
    for damaged in (b"\xff\xff", b"\x1a\x02\x0a\x05", _with_an_impossible_delay()):
        error = error_from_status(
            grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (("grpc-status-details-bin", damaged),)
        )
        assert (error.code, error.message) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")


def _with_an_impossible_delay() -> bytes:
    packed = any_pb2.Any()
    delay = duration_pb2.Duration(seconds=10**15, nanos=-5)
    packed.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    data: bytes = status_pb2.Status(code=8, details=[packed]).SerializeToString()
    return data


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
