"""The client for programs without an event loop; several threads may share one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from inference_mesh.channels import open_blocking_channel
from inference_mesh.client.retries import NO_RETRIES, Retries
from inference_mesh.client.terms import (
    DEFAULT_TIMEOUT_S,
    Attempts,
    PayloadLike,
    Terms,
    embed_payload,
    explain_request,
    vectors_of,
)
from inference_mesh.client_tls import ClientTls
from inference_mesh.errors import UnavailableError
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, policy_pb2, policy_pb2_grpc

T = TypeVar("T")


class SyncMeshClient:
    """A connection to a gateway, or to one worker."""

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; running calls are cancelled."""
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

        timeout_s: for all attempts together; None = the client's.
        """
        attempts = self._terms.attempts(timeout_s)
        self._learn(model, payload, attempts)
        message = inference_pb2.InferRequest(
            model=model, version=version, request_id=request_id, payload=self._terms.payload(model, payload)
        )
        return self._call(self._stub.Infer, message, attempts, model, request_id)

    def embed(
        self,
        model: str,
        texts: Sequence[str],
        *,
        dimensions: int = 0,
        truncate: bool = False,
        timeout_s: float | None = None,
    ) -> NDArray[np.float32]:
        """float32 (texts, dimensions): a vector for each text. Raises MeshError.

        dimensions: 0 = as many as the model has. truncate: cut a text that is too long, else it is refused.
        """
        payload = embed_payload(texts, dimensions, truncate=truncate)
        return vectors_of(self.infer(model, payload, timeout_s=timeout_s))

    def stream(
        self,
        model: str,
        payload: PayloadLike,
        *,
        version: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Iterator[inference_pb2.InferStreamResponse]:
        """The pieces of one result as they are made; closing the iterator cancels the call.

        Raises MeshError, also in the middle if the stream breaks.
        """
        attempts = self._terms.attempts(timeout_s)
        self._learn(model, payload, attempts)
        message = inference_pb2.InferStreamRequest(
            model=model, version=version, request_id=request_id, payload=self._terms.payload(model, payload)
        )
        is_begun = False
        while True:
            call = self._stub.InferStream(message, **self._terms.options(request_id, attempts.left_s))
            try:
                for piece in call:
                    is_begun = True
                    yield piece
            except grpc.RpcError as error:
                mesh_error = self._terms.error_of(model, error)
            else:
                return
            finally:
                call.cancel()
            if is_begun:
                raise mesh_error
            time.sleep(attempts.wait_s(mesh_error))

    def explain(
        self, model: str, payload: PayloadLike | None = None, *, version: str = "", sticky_key: str = ""
    ) -> policy_pb2.ExplainResponse:
        """What the gateway would make of a call, without making it. Raises MeshError.

        payload: what would be sent; None = a request that costs nothing. sticky_key: value of
        the header that the model's canary is sticky by. A refusal is part of the answer.
        """
        attempts = self._terms.attempts(None)
        if payload is not None:
            self._learn(model, payload, attempts)
        sent = None if payload is None else self._terms.payload(model, payload)
        request = explain_request(model, sent, version, sticky_key)
        return self._call(self._policy.Explain, request, attempts, model)

    def models(self) -> list[inference_pb2.Model]:
        """The models that the caller may use, sorted by name. Raises MeshError."""
        request = inference_pb2.ListModelsRequest()
        answer = self._call(self._stub.ListModels, request, self._terms.attempts(None))
        return list(answer.models)

    def model(self, name: str) -> inference_pb2.Model:
        """One model by name or alias. Raises ModelNotFoundError and other MeshErrors."""
        return self._model(name, self._terms.attempts(None))

    def _model(self, name: str, attempts: Attempts) -> inference_pb2.Model:
        request = inference_pb2.GetModelRequest(model=name)
        answer: inference_pb2.GetModelResponse = self._call(self._stub.GetModel, request, attempts)
        return answer.model

    def _learn(self, model: str, payload: PayloadLike, attempts: Attempts) -> None:
        """Ask for the model's task if the payload's form follows from it, and it is not known."""
        while isinstance(payload, dict | str) and not self._terms.knows(model):
            try:
                self._terms.learn(self._model(model, attempts), model)
            except UnavailableError as error:
                time.sleep(attempts.wait_s(error))

    def _call(
        self,
        method: Callable[..., T],
        message: object,
        attempts: Attempts,
        model: str = "",
        request_id: str = "",
    ) -> T:
        """The answer, after as many attempts as are allowed."""
        while True:
            try:
                return method(message, **self._terms.options(request_id, attempts.left_s))
            except grpc.RpcError as error:
                mesh_error = self._terms.error_of(model, error)
            time.sleep(attempts.wait_s(mesh_error))
