"""The client for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc
import numpy as np
from numpy.typing import NDArray

from inference_mesh import json_payload
from inference_mesh.channels import open_balanced_channel
from inference_mesh.client.retries import NO_RETRIES, Attempts, Retries
from inference_mesh.client.terms import (
    DEFAULT_TIMEOUT_S,
    CallOptions,
    PayloadLike,
    Terms,
    embed_payload,
    no_replica_yet,
    vectors_of,
)
from inference_mesh.client_tls import ClientTls
from inference_mesh.errors import CancelledByCallerError
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2, policy_pb2, policy_pb2_grpc

T = TypeVar("T")


class MeshClient:
    """A connection to a gateway, or to one worker, for the tasks of one event loop.

    async with MeshClient("127.0.0.1:50051", retries=Retries()) as mesh:
        answer = await mesh.infer("tiny-chat", {"prompt": "Once upon a time"}, timeout_s=20)
        print(answer.output.generate.text, answer.usage.completion_tokens)
    """

    def __init__(
        self,
        target: str,
        *,
        api_key: str | None = None,
        tls: ClientTls | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: Retries = NO_RETRIES,
    ) -> None:
        """target: host:port. timeout_s: deadline of each call that names none itself.

        tls: None = plaintext. retries: by default a call is sent once. Raises ConfigError if a file
        of tls is missing or wrong.
        """
        self._channel = open_balanced_channel(target, tls=tls)
        self._stub: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(
            self._channel
        )
        self._policy: policy_pb2_grpc.PolicyServiceAsyncStub = policy_pb2_grpc.PolicyServiceStub(
            self._channel
        )
        self._terms = Terms(api_key, timeout_s, retries)
        self._closed = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; running calls are cancelled."""
        self._closed.set()
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
        """The whole result of one request. version: empty = the registry's choice. Raises MeshError.

        request_id: at most 128 printable ASCII characters; empty = the mesh makes one. timeout_s: for
        all attempts together; None = the client's.
        """
        attempts = self._terms.attempts(timeout_s)
        message = inference_pb2.InferRequest(
            model=model,
            version=version,
            request_id=request_id,
            payload=await self._payload(model, payload, attempts),
        )
        return await self._call(self._stub.Infer, message, attempts, model, request_id)

    async def embed(
        self,
        model: str,
        texts: Sequence[str],
        *,
        dimensions: int = 0,
        truncate: bool = False,
        prompt_name: str = "",
        **options: Unpack[CallOptions],
    ) -> NDArray[np.float32]:
        """float32 (texts, dimensions): a vector for each text, 1 to 2,048 of them. Raises MeshError.

        dimensions: 0 = as many as the model has. truncate: cut a text that is too long, else it is
        refused. prompt_name: the model's instruction for these texts, e.g. "query"; empty = its default.
        For the usage as well: `answer = await infer(model, {"texts": texts})`, and `vectors_of(answer)`.
        """
        payload = embed_payload(texts, dimensions, prompt_name, truncate=truncate)
        return vectors_of(await self.infer(model, payload, **options))

    async def stream(
        self,
        model: str,
        payload: PayloadLike,
        *,
        version: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> AsyncGenerator[inference_pb2.InferStreamResponse, None]:
        """The pieces of one result as they are made; closing the iterator cancels the call.

        The call is sent, and its deadline begins, with the first step. A loop that is left by `break`
        closes it soon, `contextlib.aclosing` at once. Raises MeshError, also in the middle if the
        stream breaks; it is never sent again after its first piece. Otherwise as `infer`.
        """
        attempts = self._terms.attempts(timeout_s)
        message = inference_pb2.InferStreamRequest(
            model=model,
            version=version,
            request_id=request_id,
            payload=await self._payload(model, payload, attempts),
        )
        while True:
            call = self._stub.InferStream(message, **self._terms.options(request_id, attempts.left_s))
            try:
                async for piece in call:
                    attempts.deliver()
                    yield piece
            except grpc.RpcError as error:
                wait_s = attempts.wait_s(self._terms.failure(model, error))
            else:
                return
            finally:
                call.cancel()
            await self._pause(wait_s)

    async def explain(
        self,
        model: str,
        payload: PayloadLike | None = None,
        *,
        version: str = "",
        sticky_key: str = "",
        timeout_s: float | None = None,
    ) -> policy_pb2.ExplainResponse:
        """What the gateway would make of a call, without making it. Raises MeshError.

        payload: what would be sent; None = a request that costs nothing. sticky_key: value of
        the header that the model's canary is sticky by. A refusal is part of the answer.
        """
        attempts = self._terms.attempts(timeout_s)
        message = policy_pb2.ExplainRequest(
            model=model,
            version=version,
            sticky_key=sticky_key,
            payload=None if payload is None else await self._payload(model, payload, attempts),
        )
        return await self._call(self._policy.Explain, message, attempts, model)

    async def models(self, *, timeout_s: float | None = None) -> list[inference_pb2.Model]:
        """The models that the caller may use, sorted by name. Raises MeshError."""
        message, attempts = inference_pb2.ListModelsRequest(), self._terms.attempts(timeout_s)
        return list((await self._call(self._stub.ListModels, message, attempts)).models)

    async def model(self, name: str, *, timeout_s: float | None = None) -> inference_pb2.Model:
        """One model by name or alias. Raises ModelNotFoundError and other MeshErrors."""
        return await self._model(name, self._terms.attempts(timeout_s))

    async def _model(self, name: str, attempts: Attempts) -> inference_pb2.Model:
        message = inference_pb2.GetModelRequest(model=name)
        return (await self._call(self._stub.GetModel, message, attempts)).model

    async def _payload(self, model: str, payload: PayloadLike, attempts: Attempts) -> payload_pb2.Payload:
        """The payload as protobuf; a dictionary's form follows from the model's task."""
        if isinstance(payload, payload_pb2.Payload):
            return payload
        task = self._terms.task(model)
        while task is None:
            task = self._terms.learn(model, await self._model(model, attempts))
            if task is None:
                await self._pause(attempts.wait_s(no_replica_yet(model)))
        return json_payload.payload_from_json(task, payload)

    async def _call(
        self,
        method: Callable[..., Awaitable[T]],
        message: Any,
        attempts: Attempts,
        model: str = "",
        request_id: str = "",
    ) -> T:
        """The answer, after as many attempts as are allowed."""
        while True:
            try:
                return await method(message, **self._terms.options(request_id, attempts.left_s))
            except grpc.RpcError as error:
                wait_s = attempts.wait_s(self._terms.failure(model, error))
            await self._pause(wait_s)

    async def _pause(self, wait_s: float) -> None:
        """Wait for the next attempt. Raises CancelledByCallerError if the client is closed meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._closed.wait()
        if self._closed.is_set():
            raise CancelledByCallerError("the client was closed")
