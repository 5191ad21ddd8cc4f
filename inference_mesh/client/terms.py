"""What both forms of the client have in common: messages, metadata, deadlines and errors. No I/O."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any, cast

import grpc
import numpy as np
from numpy.typing import NDArray
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from inference_mesh import json_payload
from inference_mesh.client.retries import Retries
from inference_mesh.errors import MeshError, PayloadMismatchError, UnavailableError, UnsupportedError
from inference_mesh.metadata import API_KEY, REQUEST_ID
from inference_mesh.status_interceptor import error_from_rpc
from inference_mesh.v1 import inference_pb2, payload_pb2, policy_pb2

DEFAULT_TIMEOUT_S = 60.0

PayloadLike = payload_pb2.Payload | dict[str, Any] | str


class Attempts:
    """The attempts of one call, under one deadline."""

    def __init__(self, timeout_s: float, retries: Retries) -> None:
        self._retries = retries
        self._deadline = time.monotonic() + timeout_s
        self._failed = 0

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, never below 0."""
        return max(0.0, self._deadline - time.monotonic())

    def wait_s(self, error: MeshError) -> float:
        """Seconds until the next attempt. Raises the error if there is none."""
        self._failed += 1
        wait_s = self._retries.wait_s(error, self._failed, self.left_s, random.random())
        if wait_s is None:
            raise error
        return wait_s


class Terms:
    """Who calls, with how much patience, and what is known of the models' tasks."""

    def __init__(self, api_key: str | None, timeout_s: float, retries: Retries) -> None:
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._retries = retries
        self._tasks: dict[str, payload_pb2.Task] = {}

    def attempts(self, timeout_s: float | None) -> Attempts:
        """Of a new call. timeout_s: None = the client's own."""
        return Attempts(self._timeout_s if timeout_s is None else timeout_s, self._retries)

    def options(self, request_id: str, left_s: float) -> dict[str, Any]:
        """Metadata and timeout of one attempt."""
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)  # of the program that uses this client
        metadata = list(carrier.items())
        if self._api_key:
            metadata.append((API_KEY, self._api_key))
        if request_id:
            metadata.append((REQUEST_ID, request_id))
        return {"metadata": tuple(metadata), "timeout": left_s, "wait_for_ready": False}

    def knows(self, model: str) -> bool:
        """Whether the task of a model is known."""
        return model in self._tasks

    def learn(self, model: inference_pb2.Model, name: str) -> None:
        """Note the task of a model under the name that was asked for. Raises UnavailableError."""
        if model.task == payload_pb2.TASK_UNSPECIFIED:
            # A gateway learns the task from a replica that answers, and there was none yet.
            raise UnavailableError(f"model '{name}' has no replica that answers", retry_after_s=1.0)
        self._tasks[name] = model.task

    def payload(self, model: str, payload: PayloadLike) -> payload_pb2.Payload:
        """The payload as protobuf; a dictionary's form follows from the model's task, which is known."""
        if isinstance(payload, payload_pb2.Payload):
            return payload
        return json_payload.payload_from_json(self._tasks[model], payload)

    def error_of(self, model: str, error: grpc.RpcError) -> MeshError:
        """The error of a call; after a payload of the wrong kind the model's task is asked again."""
        # grpc's errors of both forms have the same methods; its stubs know only those of asyncio.
        mesh_error = error_from_rpc(cast("grpc.aio.AioRpcError", error))
        if isinstance(mesh_error, PayloadMismatchError):
            self._tasks.pop(model, None)
        return mesh_error


def embed_payload(texts: Sequence[str], dimensions: int, *, truncate: bool) -> payload_pb2.Payload:
    """Texts to embed. A lone string is a text, not the texts that its letters would be."""
    listed = [texts] if isinstance(texts, str) else list(texts)
    return payload_pb2.Payload(
        embed=payload_pb2.Embed(texts=listed, dimensions=dimensions, truncate=truncate)
    )


def vectors_of(answer: inference_pb2.InferResponse) -> NDArray[np.float32]:
    """float32 (texts, dimensions). Raises UnsupportedError if the answer holds none."""
    if not answer.output.HasField("embed"):
        raise UnsupportedError(f"model '{answer.model}' does not embed")
    embeddings = answer.output.embed
    return np.frombuffer(embeddings.values, dtype="<f4").reshape(-1, max(1, embeddings.dimensions))


def explain_request(
    model: str, payload: payload_pb2.Payload | None, version: str, sticky_key: str
) -> policy_pb2.ExplainRequest:
    """See `explain` of the clients."""
    return policy_pb2.ExplainRequest(model=model, version=version, sticky_key=sticky_key, payload=payload)
