"""The bridge's one connection to the gateway, and what travels over it.

Owns the channel, the metadata that may pass and the way back of errors. Decides nothing: who
may call what is the gateway's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from inference_mesh import deadlines, telemetry
from inference_mesh.channels import open_balanced_channel
from inference_mesh.client_tls import ClientTls
from inference_mesh.error_status import STATUS_DETAILS, error_from_rpc
from inference_mesh.errors import (
    DeadlineExceededError,
    InvalidInputError,
    MeshError,
    StreamBrokenError,
    UnauthenticatedError,
    UnavailableError,
)
from inference_mesh.metadata import API_KEY, AUTHORIZATION, REQUEST_ID
from inference_mesh.tracing import trace_metadata
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc
from rest_bridge.gateway_notes import GatewayNotes

CREDENTIALS = (AUTHORIZATION, API_KEY)
MAX_CREDENTIAL_CHARACTERS = 12 * 1024
"""More than a gateway takes (a token of 8 KiB, as Basic a third longer), and less than what gRPC's
limit of metadata would refuse in words of its own."""
TIMEOUT_HEADER = "x-request-timeout"
HEALTH_TIMEOUT_S = 2.0
NOT_SERVING = health_pb2.HealthCheckResponse.ServingStatus.Name(health_pb2.HealthCheckResponse.NOT_SERVING)
FURTHER_HEALTH_CHECKS = 2
"""Calls go round the gateways, so that one which stops is not asked twice in a row."""
RETRY_AFTER_S = 1.0
"""Hint for a gateway that cannot be reached; it is back within this when it restarts."""


@dataclass(frozen=True)
class Caller:
    """On whose behalf a call is made, and until when."""

    credentials: tuple[tuple[str, str], ...]
    deadline: float
    """In the seconds of the event loop's clock."""
    forwarded: tuple[tuple[str, str], ...] = ()
    """Headers of the client that the gateway may decide by, such as a session's."""
    notes: GatewayNotes = field(default_factory=GatewayNotes, compare=False)
    """Where the gateway's words beside the answer are noted."""

    @property
    def digest(self) -> bytes:
        """What tells callers apart without keeping their credentials."""
        return hashlib.sha256(repr(self.credentials).encode()).digest()

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """All that passes to the gateway: credentials, request id, trace, forwarded headers."""
        own = (REQUEST_ID, telemetry.current_request_id.get())
        return (*self.credentials, *self.forwarded, own, *trace_metadata())


@dataclass(frozen=True)
class CallTerms:
    """What callers may ask for.

    default_timeout_s: for a request that names none; longest_timeout_s: that one may name.
    forward_headers: those that pass to the gateway, in lower case.
    """

    default_timeout_s: float
    longest_timeout_s: float
    forward_headers: tuple[str, ...] = ()


def caller_of(headers: Mapping[str, str], terms: CallTerms, notes: GatewayNotes) -> Caller:
    """The caller of an HTTP request. Raises InvalidInputError and UnauthenticatedError."""
    credentials = tuple((name, headers[name]) for name in CREDENTIALS if name in headers)
    if not all(_is_printable(value) for _, value in credentials):
        raise UnauthenticatedError
    if sum(len(value) for _, value in credentials) > MAX_CREDENTIAL_CHARACTERS:
        raise UnauthenticatedError
    forwarded = tuple((name, headers[name]) for name in terms.forward_headers if name in headers)
    for name, value in forwarded:
        if not _is_printable(value):
            raise InvalidInputError(f"{name}: must be printable ASCII")
    deadline = asyncio.get_running_loop().time() + _timeout_s(headers.get(TIMEOUT_HEADER), terms)
    return Caller(credentials, deadline, forwarded, notes)


class Upstream:
    """The gateway, as calls that return or raise MeshError."""

    def __init__(self, target: str, max_message_bytes: int, tls: ClientTls | None = None) -> None:
        """target: host:port. tls: None = plaintext. Raises ConfigError if one of its files is wrong."""
        self.channel = open_balanced_channel(target, max_message_bytes=max_message_bytes, tls=tls)
        self._stub: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(
            self.channel
        )
        self._health: Any = health_pb2_grpc.HealthStub(self.channel)

    async def infer(self, request: inference_pb2.InferRequest, caller: Caller) -> inference_pb2.InferResponse:
        """The whole result of one request."""
        call = self._stub.Infer(request, metadata=caller.metadata(), timeout=left_s(caller))
        with typed_errors(caller.notes):
            answer = await call
            caller.notes.take(await call.initial_metadata())
            caller.notes.take(await call.trailing_metadata())
        caller.notes.usage = answer.usage
        return answer

    async def infer_stream(
        self, request: inference_pb2.InferStreamRequest, caller: Caller
    ) -> AsyncGenerator[inference_pb2.InferStreamResponse, None]:
        """The pieces of one result; closing the iterator cancels the call.

        Raises StreamBrokenError also when the stream ends as if all were well, but without
        the usage that its last message carries.
        """
        call = self._stub.InferStream(request, metadata=caller.metadata(), timeout=left_s(caller))
        piece: inference_pb2.InferStreamResponse | None = None
        try:
            with typed_errors(caller.notes):
                caller.notes.take(await call.initial_metadata())
                async for piece in call:
                    if piece.HasField("usage"):
                        caller.notes.usage = piece.usage
                    yield piece
        except UnavailableError as error:
            raise _broken(error) if piece is not None else error from None
        finally:
            call.cancel()
        if piece is None or not piece.HasField("usage"):
            raise StreamBrokenError("the stream ended before the answer was complete")

    async def models(self, caller: Caller) -> Iterable[inference_pb2.Model]:
        """The models that the caller may use, sorted by name."""
        request = inference_pb2.ListModelsRequest()
        with typed_errors(caller.notes):
            answer = await self._stub.ListModels(request, metadata=caller.metadata(), timeout=left_s(caller))
        return answer.models

    async def model(self, name: str, version: str, caller: Caller) -> inference_pb2.Model:
        """One model by name or alias."""
        request = inference_pb2.GetModelRequest(model=name, version=version)
        with typed_errors(caller.notes):
            answer = await self._stub.GetModel(request, metadata=caller.metadata(), timeout=left_s(caller))
        return answer.model

    async def health(self) -> str:
        """A gateway's own word on its health, "UNREACHABLE" if it says none.

        Where one stops while others serve, the next ones are asked: they get the calls as well.
        """
        said = await self._ask_health()
        for _ in range(FURTHER_HEALTH_CHECKS):
            if said != NOT_SERVING:
                break
            said = await self._ask_health()
        return said

    async def _ask_health(self) -> str:
        try:
            answer = await self._health.Check(health_pb2.HealthCheckRequest(), timeout=HEALTH_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return "UNREACHABLE" if error.code() == grpc.StatusCode.UNAVAILABLE else error.code().name
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    async def close(self) -> None:
        """Close the connection; running calls are cancelled."""
        await self.channel.close()


@contextlib.contextmanager
def typed_errors(notes: GatewayNotes) -> Iterator[None]:
    """A call's errors as MeshError; what it tells beside them is noted."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        notes.take(error.initial_metadata())
        notes.take(error.trailing_metadata())
        raise _error_of(error) from None


def _error_of(error: grpc.aio.AioRpcError) -> MeshError:
    """The MeshError of a failed call; what grpc itself says, of addresses and streams, stays inside."""
    mesh_error = error_from_rpc(error)
    if _has_details(error):
        return mesh_error
    if isinstance(mesh_error, UnavailableError):
        return UnavailableError("the gateway cannot be reached", retry_after_s=RETRY_AFTER_S)
    if isinstance(mesh_error, DeadlineExceededError):
        return DeadlineExceededError("the deadline passed before the answer was complete")
    return mesh_error


def _has_details(error: grpc.aio.AioRpcError) -> bool:
    return any(name == STATUS_DETAILS for name, _ in error.trailing_metadata() or ())


def _broken(error: UnavailableError) -> StreamBrokenError:
    if isinstance(error, StreamBrokenError):
        return error
    return StreamBrokenError("the stream broke before the answer was complete", retry_after_s=RETRY_AFTER_S)


def left_s(caller: Caller) -> float:
    """Seconds until the caller's deadline. Raises DeadlineExceededError if there are none."""
    return deadlines.remaining_s(caller.deadline) or 0.0


def _timeout_s(value: str | None, terms: CallTerms) -> float:
    if value is None:
        return terms.default_timeout_s
    try:
        timeout_s = float(value)
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s <= terms.longest_timeout_s:
        raise InvalidInputError(
            f"{TIMEOUT_HEADER}: must be seconds, more than 0 and at most {terms.longest_timeout_s:g}"
        )
    return timeout_s


def _is_printable(value: str) -> bool:
    """Whether gRPC metadata can carry it."""
    return value.isascii() and value.isprintable()
