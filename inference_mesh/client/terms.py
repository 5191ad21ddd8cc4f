"""What both forms of the client have in common: payloads, metadata, deadlines and errors. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, cast

import grpc
import numpy as np
from numpy.typing import NDArray
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from inference_mesh import json_payload
from inference_mesh.client.retries import Attempts, Failure, Retries, failure_of
from inference_mesh.error_status import error_from_status
from inference_mesh.errors import InternalError, PayloadMismatchError, UnavailableError, UnsupportedError
from inference_mesh.metadata import API_KEY, REQUEST_ID, RETRY_PUSHBACK, value_of
from inference_mesh.v1 import inference_pb2, payload_pb2

DEFAULT_TIMEOUT_S = 60.0
NEXT_REPLICA_S = 1.0
"""Hint for a model that no replica has told of yet; a gateway asks new ones within this."""

PayloadLike = payload_pb2.Payload | dict[str, Any] | str


class CallOptions(TypedDict, total=False):
    """What each call of a model may be told; all as in `infer`."""

    version: str
    request_id: str
    timeout_s: float | None


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

    def task(self, model: str) -> payload_pb2.Task | None:
        """The task of a model, which says what form its payloads have; None = not known."""
        return self._tasks.get(model)

    def learn(self, name: str, model: inference_pb2.Model) -> payload_pb2.Task | None:
        """Note the task of a model under the name that was asked for; None = nobody knows it yet."""
        if model.task == payload_pb2.TASK_UNSPECIFIED:
            return None
        self._tasks[name] = model.task
        return model.task

    def failure(self, model: str, error: grpc.RpcError) -> Failure:
        """What a call failed with; after a payload of the wrong kind the model's task is asked again."""
        call = cast("grpc.Call", error)  # so are the errors of both forms, which no type of grpc says
        trailers = tuple((key, value) for key, value in call.trailing_metadata() or ())
        mesh_error = error_from_status(call.code(), call.details() or "", trailers)
        if isinstance(mesh_error, PayloadMismatchError):
            self._tasks.pop(model, None)
        return failure_of(mesh_error, value_of(trailers, RETRY_PUSHBACK))


def no_replica_yet(model: str) -> Failure:
    """A gateway learns a model's task from a replica that answers, and there was none yet."""
    error = UnavailableError(f"model '{model}' has no replica that answers", retry_after_s=NEXT_REPLICA_S)
    return Failure(error)


def embed_payload(
    texts: Sequence[str], dimensions: int, prompt_name: str, *, truncate: bool
) -> payload_pb2.Payload:
    """Texts to embed. A lone string is a text, not the texts that its letters would be.

    Raises InvalidInputError for what the fields cannot hold.
    """
    document = {
        "texts": [texts] if isinstance(texts, str) else list(texts),
        "dimensions": dimensions,
        "truncate": truncate,
        "prompt_name": prompt_name,
    }
    return json_payload.payload_from_json(payload_pb2.TASK_EMBED, document)


def vectors_of(answer: inference_pb2.InferResponse) -> NDArray[np.float32]:
    """float32 (texts, dimensions): the vectors in an answer, an array of the caller's own.

    Raises UnsupportedError if the answer holds none, InternalError if they are damaged.
    """
    if not answer.output.HasField("embed"):
        raise UnsupportedError(f"model '{answer.model}' does not embed")
    embeddings = answer.output.embed
    row_bytes = 4 * max(1, embeddings.dimensions)
    if len(embeddings.values) % row_bytes:
        raise InternalError(f"the answer's {len(embeddings.values)} bytes are no rows of {row_bytes}")
    vectors = np.frombuffer(embeddings.values, dtype="<f4").astype(np.float32)
    return vectors.reshape(-1, row_bytes // 4)
