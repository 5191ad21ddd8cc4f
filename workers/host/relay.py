"""Calls on their way to a model's worker and back, as the bytes that they are.

Owns which methods are passed on. Metadata, deadline, cancellation, usage and load report pass as
they are; a model that is not in memory is loaded first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, TypeAlias

import grpc

from inference_mesh import metadata
from inference_mesh.absent_caller import NOBODY_LISTENS, absence
from inference_mesh.deadlines import deadline_of, remaining_s
from inference_mesh.error_status import STATUS_DETAILS, error_from_rpc
from inference_mesh.errors import InvalidInputError
from inference_mesh.routing_fields import routing_fields
from workers import inference_servicer as native
from workers import open_inference_servicer as oip
from workers.host.keeper import Keeper

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Pairs: TypeAlias = tuple[tuple[str, str | bytes], ...]

OF_A_HOP = ("grpc-", "user-agent", "te", "content-type")
"""Beginnings of metadata that gRPC writes anew at each hop."""

OF_ONE_CALL = frozenset({STATUS_DETAILS, metadata.RETRY_PUSHBACK})
"""Trailers that the status itself brings again."""


class Relay:
    """Handlers over raw bytes."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def native_methods(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """Methods of InferenceService that go to a worker."""
        return {
            "Infer": self._unary(native.SERVICE, "Infer"),
            "InferStream": self._stream(native.SERVICE, "InferStream"),
        }

    def oip_methods(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """Methods of GRPCInferenceService that go to a worker."""
        return {
            "ModelInfer": self._unary(oip.SERVICE, "ModelInfer"),
            "ModelMetadata": self._unary(oip.SERVICE, "ModelMetadata"),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._two_way),
        }

    def _unary(self, service: str, name: str) -> grpc.RpcMethodHandler[bytes, bytes]:
        path = f"/{service}/{name}"

        async def relay(message: bytes, context: Context) -> bytes:
            deadline = deadline_of(context)
            async with self._keeper.model(_model_of(message, context), deadline) as process:
                method: Any = process.channel.unary_unary(path)
                call = method(message, **_terms(context, deadline))
                answer: bytes = await _passing(call, context, deadline)
                return answer

        return grpc.unary_unary_rpc_method_handler(relay)

    def _stream(self, service: str, name: str) -> grpc.RpcMethodHandler[bytes, bytes]:
        path = f"/{service}/{name}"

        async def relay(message: bytes, context: Context) -> AsyncGenerator[bytes]:
            deadline = deadline_of(context)
            async with self._keeper.model(_model_of(message, context), deadline) as process:
                method: Any = process.channel.unary_stream(path)
                call = method(message, **_terms(context, deadline))
                async for answer in _pieces(call, context, deadline):
                    yield answer

        return grpc.unary_stream_rpc_method_handler(relay)

    async def _two_way(self, requests: AsyncIterator[bytes], context: Context) -> AsyncGenerator[bytes]:
        """ModelStreamInfer: the whole stream goes to the model of its first message."""
        deadline = deadline_of(context)
        first = await anext(aiter(requests), None)
        if first is None:
            return

        async def messages() -> AsyncIterator[bytes]:
            yield first
            async for message in requests:
                yield message

        async with self._keeper.model(_model_of(first, context), deadline) as process:
            method: Any = process.channel.stream_stream(f"/{oip.SERVICE}/ModelStreamInfer")
            call = method(messages(), **_terms(context, deadline))
            async for answer in _pieces(call, context, deadline):
                yield answer


def _model_of(message: bytes, context: Context) -> str:
    """The model that is meant: as the gateway resolved it, else as the message says."""
    sent = tuple(context.invocation_metadata() or ())
    name = metadata.value_of(sent, metadata.MODEL) or routing_fields(message).model
    if not name:
        raise InvalidInputError("model: is missing; it names the model that is to answer")
    return name


def _terms(context: Context, deadline: float | None) -> dict[str, Any]:
    kept = [
        (key, value) for key, value in context.invocation_metadata() or () if not key.startswith(OF_A_HOP)
    ]
    return {"metadata": tuple(kept), "timeout": remaining_s(deadline)}


async def _passing(call: Any, context: Context, deadline: float | None) -> bytes:
    """The answer of a unary call; what the worker tells beside it goes to the caller."""
    try:
        await _pass_beginning(call, context, deadline)
        answer: bytes = await call
        await _pass_end(call, context)
    except grpc.aio.AioRpcError as error:
        _set_trailers(context, error.trailing_metadata())
        raise error_from_rpc(error) from None
    except asyncio.CancelledError:
        call.cancel()
        raise
    return answer


async def _pieces(call: Any, context: Context, deadline: float | None) -> AsyncGenerator[bytes]:
    try:
        await _pass_beginning(call, context, deadline)
        async for answer in call:
            yield answer
        await _pass_end(call, context)
    except grpc.aio.AioRpcError as error:
        _set_trailers(context, error.trailing_metadata())
        raise error_from_rpc(error) from None
    finally:
        call.cancel()


async def _pass_beginning(call: Any, context: Context, deadline: float | None) -> None:
    told = await call.initial_metadata()
    kept = tuple((key, value) for key, value in told or () if not key.startswith(OF_A_HOP))
    if not kept:
        return
    try:
        await context.send_initial_metadata(kept)
    except NOBODY_LISTENS:
        raise absence(deadline) from None


async def _pass_end(call: Any, context: Context) -> None:
    _set_trailers(context, await call.trailing_metadata())


def _set_trailers(context: Context, told: Any) -> None:
    context.set_trailing_metadata(tuple((key, value) for key, value in told or () if key not in OF_ONE_CALL))
