"""The client for programs without an event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc
import numpy as np
from numpy.typing import NDArray

from inference_mesh import json_payload
from inference_mesh.channels import open_blocking_channel
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


class SyncMeshClient:
    """A connection to a gateway, or to one worker; several threads may share it, each stream is of one.

    with SyncMeshClient("127.0.0.1:50051", retries=Retries()) as mesh:
        vectors = mesh.embed("minilm", ["a happy dog", "a sunny day"], timeout_s=5)
        for piece in mesh.stream("tiny-chat", {"prompt": "Once upon a time"}):
            print(piece.output.generate.text, end="")
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
        self._channel = open_blocking_channel(target, tls=tls)
        self._stub = inference_pb2_grpc.InferenceServiceStub(self._channel)
        self._policy = policy_pb2_grpc.PolicyServiceStub(self._channel)
        self._terms = Terms(api_key, timeout_s, retries)
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the running calls of all threads end with CancelledByCallerError."""
        self._closed.set()
        self._channel.close()

    def infer(
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
            payload=self._payload(model, payload, attempts),
        )
        return self._call(self._stub.Infer, message, attempts, model, request_id)

    def embed(
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
        For the usage as well: `answer = infer(model, {"texts": texts})`, and `vectors_of(answer)`.
        """
        payload = embed_payload(texts, dimensions, prompt_name, truncate=truncate)
        return vectors_of(self.infer(model, payload, **options))

    def stream(
        self,
        model: str,
        payload: PayloadLike,
        *,
        version: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Generator[inference_pb2.InferStreamResponse, None, None]:
        """The pieces of one result as they are made; closing the iterator cancels the call.

        The call is sent, and its deadline begins, with the first step. A loop that is left by `break`
        closes it unless the iterator is kept. Raises MeshError, also in the middle if the stream
        breaks; it is never sent again after its first piece. Otherwise as `infer`.
        """
        attempts = self._terms.attempts(timeout_s)
        message = inference_pb2.InferStreamRequest(
            model=model,
            version=version,
            request_id=request_id,
            payload=self._payload(model, payload, attempts),
        )
        while True:
            call = self._stub.InferStream(message, **self._terms.options(request_id, attempts.left_s))
            try:
                for piece in call:
                    attempts.deliver()
                    yield piece
            except grpc.RpcError as error:
                wait_s = attempts.wait_s(self._terms.failure(model, error))
            else:
                return
            finally:
                call.cancel()
            self._pause(wait_s)

    def explain(
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
            payload=None if payload is None else self._payload(model, payload, attempts),
        )
        return self._call(self._policy.Explain, message, attempts, model)

    def models(self, *, timeout_s: float | None = None) -> list[inference_pb2.Model]:
        """The models that the caller may use, sorted by name. Raises MeshError."""
        message, attempts = inference_pb2.ListModelsRequest(), self._terms.attempts(timeout_s)
        return list(self._call(self._stub.ListModels, message, attempts).models)

    def model(self, name: str, *, timeout_s: float | None = None) -> inference_pb2.Model:
        """One model by name or alias. Raises ModelNotFoundError and other MeshErrors."""
        return self._model(name, self._terms.attempts(timeout_s))

    def _model(self, name: str, attempts: Attempts) -> inference_pb2.Model:
        message = inference_pb2.GetModelRequest(model=name)
        return self._call(self._stub.GetModel, message, attempts).model

    def _payload(self, model: str, payload: PayloadLike, attempts: Attempts) -> payload_pb2.Payload:
        """The payload as protobuf; a dictionary's form follows from the model's task."""
        if isinstance(payload, payload_pb2.Payload):
            return payload
        task = self._terms.task(model)
        while task is None:
            task = self._terms.learn(model, self._model(model, attempts))
            if task is None:
                self._pause(attempts.wait_s(no_replica_yet(model)))
        return json_payload.payload_from_json(task, payload)

    def _call(
        self,
        method: Callable[..., T],
        message: Any,
        attempts: Attempts,
        model: str = "",
        request_id: str = "",
    ) -> T:
        """The answer, after as many attempts as are allowed."""
        while True:
            try:
                return method(message, **self._terms.options(request_id, attempts.left_s))
            except grpc.RpcError as error:
                wait_s = attempts.wait_s(self._terms.failure(model, error))
            self._pause(wait_s)

    def _pause(self, wait_s: float) -> None:
        """Wait for the next attempt. Raises CancelledByCallerError if the client is closed meanwhile."""
        if self._closed.wait(wait_s):
            raise CancelledByCallerError("the client was closed")
