"""A connected server of inference.GRPCInferenceService: its stub, and the models to examine it with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc

from conformance.checks import NotApplicableError, Suite
from conformance.doors import Metadata, is_implemented, metadata_of, open_grpc
from conformance.subject import Subject
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.oip import open_inference_pb2_grpc

T = TypeVar("T")
UNKNOWN_MODEL = "conformance-no-such-model"
TEXT = "BYTES"
MOST_LISTED = 32
"""How many models are asked for their metadata, where none is named."""


class OipServer:
    """Owns the stub of one channel, and which models were found."""

    def __init__(self, channel: grpc.aio.Channel, subject: Subject) -> None:
        self.channel = channel
        self.stub: Any = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        self.metadata: Metadata = metadata_of(subject.api_key)
        self.has_key = bool(subject.api_key)
        self._names = subject.models
        self._described: list[oip.ModelMetadataResponse] | None = None

    async def extensions(self) -> list[str]:
        """What ServerMetadata announces."""
        answer = await self.stub.ServerMetadata(oip.ServerMetadataRequest(), metadata=self.metadata)
        return list(answer.extensions)

    async def described(self, name: str) -> oip.ModelMetadataResponse:
        """What ModelMetadata says of a model."""
        request = oip.ModelMetadataRequest(name=name)
        answer: oip.ModelMetadataResponse = await self.stub.ModelMetadata(request, metadata=self.metadata)
        return answer

    async def tensor_model(self) -> oip.ModelMetadataResponse:
        """A model that takes numbers. Raises NotApplicableError if none is named or listed."""
        if self._names.tensors:
            return await self.described(self._names.tensors)
        for model in await self._listed():
            if model.inputs and all(one.datatype != TEXT for one in model.inputs):
                return model
        raise NotApplicableError("no model that takes numbers is listed; name one by --tensors")

    async def text_model(self) -> oip.ModelMetadataResponse:
        """A model that takes one tensor of texts. Raises NotApplicableError if none is named or listed."""
        named = self._names.embed or self._names.generate
        if named:
            return await self.described(named)
        for model in await self._listed():
            if len(model.inputs) == 1 and model.inputs[0].datatype == TEXT:
                return model
        raise NotApplicableError("no model that takes texts is listed; name one by --embed or --generate")

    async def infer(self, request: oip.ModelInferRequest) -> oip.ModelInferResponse:
        """One unary call."""
        answer: oip.ModelInferResponse = await self.stub.ModelInfer(request, metadata=self.metadata)
        return answer

    async def _listed(self) -> list[oip.ModelMetadataResponse]:
        """The ready models of the repository's index, described; asked once."""
        if self._described is None:
            request = oip.RepositoryIndexRequest(ready=True)
            index = await implemented(
                self.stub.RepositoryIndex(request, metadata=self.metadata), "RepositoryIndex"
            )
            names = list(dict.fromkeys(one.name for one in index.models))[:MOST_LISTED]
            self._described = [await self.described(name) for name in names]
        return self._described


async def implemented(call: Awaitable[T], method: str) -> T:
    """A call's answer. Raises NotApplicableError if the server has no such method."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise NotApplicableError(f"the server has no {method}, which is an extension") from None
        raise


@asynccontextmanager
async def _connect(subject: Subject) -> AsyncIterator[OipServer]:
    async with open_grpc(subject) as channel:
        yield OipServer(channel, subject)


async def _is_spoken(server: OipServer) -> bool:
    return await is_implemented(server.stub.ServerLive(oip.ServerLiveRequest(), metadata=server.metadata))


OIP_GRPC: Suite[OipServer] = Suite("oip-grpc", "Open Inference Protocol v2 over gRPC", _connect, _is_spoken)
