"""The public Python client: every model of a mesh behind one object.

    async with MeshClient("127.0.0.1:50051", api_key="mesh_…") as mesh:
        answer = await mesh.infer("tiny-chat", {"prompt": "Once upon a time"})
        async for piece in mesh.stream("tiny-chat", {"messages": [...]}):
            print(piece.output.generate.text, end="")

    MeshClient("gateway.example:50051", api_key="mesh_…", tls=ClientTls(Path("ca.pem")))

Payloads are dictionaries in the form of `POST /api/infer`, or protobuf payloads. Errors are
MeshError, with `retry_after_s` and `violations` where a limit was reached. It imports the native
stubs only, so that it can live beside tritonclient.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import grpc
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from inference_mesh import json_payload
from inference_mesh.channels import open_balanced_channel
from inference_mesh.client_tls import ClientTls
from inference_mesh.errors import MeshError, PayloadMismatchError, UnavailableError
from inference_mesh.metadata import API_KEY, REQUEST_ID
from inference_mesh.status_interceptor import error_from_rpc
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2, policy_pb2, policy_pb2_grpc

DEFAULT_TIMEOUT_S = 60.0

PayloadLike = payload_pb2.Payload | dict[str, Any] | str


class MeshClient:
    """A connection to a gateway, or to one worker."""

    def __init__(
        self,
        target: str,
        *,
        api_key: str | None = None,
        tls: ClientTls | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """target: host:port. timeout_s: deadline of each call that names none itself.

        tls: None = plaintext. Raises ConfigError if one of its files is missing or wrong.
        """
        self._channel = open_balanced_channel(target, tls=tls)
        self._stub: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(
            self._channel
        )
        self._policy: policy_pb2_grpc.PolicyServiceAsyncStub = policy_pb2_grpc.PolicyServiceStub(
            self._channel
        )
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._tasks: dict[str, payload_pb2.Task] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; running calls are cancelled."""
        await self._channel.close()

    async def infer(
        self,
        model: str,
        payload: PayloadLike,
        *,
        version: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> inference_pb2.InferResponse:
        """The whole result of one request. version: empty = the registry's choice. Raises MeshError."""
        message = inference_pb2.InferRequest(
            model=model,
            version=version,
            request_id=request_id,
            payload=await self._payload(model, payload),
        )
        try:
            return await self._stub.Infer(message, **self._options(request_id, timeout_s))
        except grpc.aio.AioRpcError as error:
            raise self._error_of(model, error) from None

    async def stream(
        self,
        model: str,
        payload: PayloadLike,
        *,
        version: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        """The pieces of one result as they are made; closing the iterator cancels the call.

        Raises MeshError, also in the middle if the stream breaks.
        """
        message = inference_pb2.InferStreamRequest(
            model=model,
            version=version,
            request_id=request_id,
            payload=await self._payload(model, payload),
        )
        call = self._stub.InferStream(message, **self._options(request_id, timeout_s))
        try:
            async for piece in call:
                yield piece
        except grpc.aio.AioRpcError as error:
            raise self._error_of(model, error) from None
        finally:
            call.cancel()

    async def explain(
        self, model: str, payload: PayloadLike | None = None, *, version: str = "", sticky_key: str = ""
    ) -> policy_pb2.ExplainResponse:
        """What the gateway would make of a call, without making it. Raises MeshError.

        payload: what would be sent; None = a request that costs nothing. sticky_key: value of
        the header that the model's canary is sticky by. A refusal is part of the answer.
        """
        message = policy_pb2.ExplainRequest(
            model=model,
            version=version,
            sticky_key=sticky_key,
            payload=None if payload is None else await self._payload(model, payload),
        )
        try:
            return await self._policy.Explain(message, **self._options("", None))
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from None

    async def models(self) -> list[inference_pb2.Model]:
        """The models that the caller may use, sorted by name. Raises MeshError."""
        try:
            answer = await self._stub.ListModels(inference_pb2.ListModelsRequest(), **self._options("", None))
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from None
        return list(answer.models)

    async def model(self, name: str) -> inference_pb2.Model:
        """One model by name or alias. Raises ModelNotFoundError and other MeshErrors."""
        try:
            answer = await self._stub.GetModel(
                inference_pb2.GetModelRequest(model=name), **self._options("", None)
            )
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from None
        return answer.model

    async def _payload(self, model: str, payload: PayloadLike) -> payload_pb2.Payload:
        """The payload as protobuf; a dictionary's form follows from the model's task."""
        if isinstance(payload, payload_pb2.Payload):
            return payload
        if model not in self._tasks:
            task = (await self.model(model)).task
            if task == payload_pb2.TASK_UNSPECIFIED:
                # A gateway learns the task from a replica that answers, and there was none yet.
                raise UnavailableError(f"model '{model}' has no replica that answers", retry_after_s=1.0)
            self._tasks[model] = task
        return json_payload.payload_from_json(self._tasks[model], payload)

    def _error_of(self, model: str, error: grpc.aio.AioRpcError) -> MeshError:
        """The error of a call; after a payload of the wrong kind the model's task is asked again."""
        mesh_error = error_from_rpc(error)
        if isinstance(mesh_error, PayloadMismatchError):
            self._tasks.pop(model, None)
        return mesh_error

    def _options(self, request_id: str, timeout_s: float | None) -> dict[str, Any]:
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)  # of the program that uses this client
        metadata = list(carrier.items())
        if self._api_key:
            metadata.append((API_KEY, self._api_key))
        if request_id:
            metadata.append((REQUEST_ID, request_id))
        return {"metadata": tuple(metadata), "timeout": timeout_s or self._timeout_s, "wait_for_ready": False}
