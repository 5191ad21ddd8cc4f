"""A load by gRPC: the mesh's own protocol, and the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc

from inference_mesh import json_payload, tensors
from inference_mesh.channels import open_balanced_channel
from inference_mesh.client import MeshClient
from inference_mesh.errors import MeshError
from inference_mesh.metadata import API_KEY
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.oip import open_inference_pb2_grpc
from inference_mesh.v1 import inference_pb2, payload_pb2
from mesh_cli.errors import UsageError
from mesh_cli.load.generator import CallError
from mesh_cli.load.outcome import Answered
from mesh_cli.load.questions import Payload
from mesh_cli.target import Access


class NativeLoad:
    """Calls of InferenceService."""

    def __init__(
        self, client: MeshClient, model: inference_pb2.Model, payloads: Iterator[Payload], *, is_stream: bool
    ) -> None:
        self._client = client
        self._model = model
        self._payloads = payloads
        self._is_stream = is_stream

    async def ask(self, note_first: Callable[[], None]) -> Answered:
        """One call."""
        payload = json_payload.payload_from_json(self._model.task, next(self._payloads))
        try:
            if self._is_stream:
                return await self._pieces(payload, note_first)
            usage = (await self._client.infer(self._model.name, payload)).usage
        except MeshError as error:
            raise CallError(error.code.name) from None
        return Answered(usage.prompt_tokens, usage.completion_tokens)

    async def _pieces(self, payload: payload_pb2.Payload, note_first: Callable[[], None]) -> Answered:
        answered = Answered()
        async for piece in self._client.stream(self._model.name, payload):
            if piece.HasField("output"):
                note_first()
            if piece.HasField("usage"):
                answered = Answered(piece.usage.prompt_tokens, piece.usage.completion_tokens)
        return answered

    async def close(self) -> None:
        """Nothing of its own to close."""


class OpenInferenceLoad:
    """Calls of GRPCInferenceService.ModelInfer."""

    def __init__(
        self, access: Access, model: inference_pb2.Model, payloads: Iterator[Payload], timeout_s: float
    ) -> None:
        self._channel = open_balanced_channel(access.target, tls=access.tls)
        self._stub: open_inference_pb2_grpc.GRPCInferenceServiceAsyncStub = (
            open_inference_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        )
        self._metadata = ((API_KEY, access.api_key),) if access.api_key else ()
        self._model = model.name
        self._payloads = payloads
        self._timeout_s = timeout_s

    async def ask(self, note_first: Callable[[], None]) -> Answered:
        """One call."""
        request = request_of(self._model, next(self._payloads))
        try:
            await self._stub.ModelInfer(request, metadata=self._metadata, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            raise CallError(error.code().name) from None
        return Answered()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()


def request_of(model: str, payload: Payload) -> oip.ModelInferRequest:
    """A payload as a request of the protocol. Raises UsageError if it has no form there."""
    request = oip.ModelInferRequest(model_name=model)
    for tensor in [tensors.from_json(entry) for entry in tensors_of(payload)]:
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        request.raw_input_contents.append(tensor.data)
    for name in ("max_tokens", "temperature"):
        value = payload.get(name)
        if isinstance(value, float):
            request.parameters[name].double_param = value
        elif value is not None:
            request.parameters[name].int64_param = value
    return request


def tensors_of(payload: Payload) -> list[Payload]:
    """The tensors of a payload; a text becomes one of BYTES. Raises UsageError for other payloads."""
    if "inputs" in payload:
        inputs: list[Payload] = payload["inputs"]
        return inputs
    texts = text_of(payload)
    return [{"name": "text_input", "datatype": "BYTES", "shape": [len(texts)], "data": texts}]


def text_of(payload: Payload) -> list[str]:
    """The texts of a payload: a prompt, the last message of a chat, or what is to be embedded."""
    if "messages" in payload:
        return [payload["messages"][-1]["content"]]
    for name in ("prompt", "text", "texts"):
        if name in payload:
            value = payload[name]
            return value if isinstance(value, list) else [value]
    raise UsageError("this payload has no form in this dialect; allowed are native and infer")
