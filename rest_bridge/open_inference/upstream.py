"""The gateway's Open Inference Protocol, as calls that return or raise MeshError."""

from __future__ import annotations

from collections.abc import Mapping

import grpc

from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.oip import open_inference_pb2_grpc
from rest_bridge.upstream import Caller, Upstream, left_s, typed_errors

Parameters = Mapping[str, oip.ModelRepositoryParameter]


class OpenInferenceUpstream:
    """The same gateway, over the same channel."""

    def __init__(self, upstream: Upstream) -> None:
        self._stub: open_inference_pb2_grpc.GRPCInferenceServiceAsyncStub = (
            open_inference_pb2_grpc.GRPCInferenceServiceStub(upstream.channel)
        )

    async def infer(self, request: oip.ModelInferRequest, caller: Caller) -> oip.ModelInferResponse:
        """The whole result of one request."""
        call = self._stub.ModelInfer(request, metadata=caller.metadata(), timeout=left_s(caller))
        with typed_errors(caller.notes):
            answer = await call
            caller.notes.take(await call.initial_metadata())
            caller.notes.take(await call.trailing_metadata())
        return answer

    async def model_metadata(self, name: str, version: str, caller: Caller) -> oip.ModelMetadataResponse:
        """What a model takes and gives."""
        request = oip.ModelMetadataRequest(name=name, version=version)
        with typed_errors(caller.notes):
            return await self._stub.ModelMetadata(request, metadata=caller.metadata(), timeout=left_s(caller))

    async def model_ready(self, name: str, version: str, caller: Caller) -> bool:
        """Whether a model takes inference calls."""
        request = oip.ModelReadyRequest(name=name, version=version)
        with typed_errors(caller.notes):
            answer = await self._stub.ModelReady(request, metadata=caller.metadata(), timeout=left_s(caller))
        return answer.ready

    async def server_metadata(self, caller: Caller) -> oip.ServerMetadataResponse:
        """Name, version and extensions."""
        request = oip.ServerMetadataRequest()
        with typed_errors(caller.notes):
            return await self._stub.ServerMetadata(
                request, metadata=caller.metadata(), timeout=left_s(caller)
            )

    async def model_config(self, name: str, version: str, caller: Caller) -> oip.ModelConfig:
        """What a model is, in Triton's form."""
        request = oip.ModelConfigRequest(name=name, version=version)
        with typed_errors(caller.notes):
            answer = await self._stub.ModelConfig(request, metadata=caller.metadata(), timeout=left_s(caller))
        return answer.config

    async def model_statistics(self, name: str, version: str, caller: Caller) -> oip.ModelStatisticsResponse:
        """What the gateway counted of a model; of all models without a name."""
        request = oip.ModelStatisticsRequest(name=name, version=version)
        with typed_errors(caller.notes):
            return await self._stub.ModelStatistics(
                request, metadata=caller.metadata(), timeout=left_s(caller)
            )

    async def repository_index(self, caller: Caller, *, ready: bool) -> oip.RepositoryIndexResponse:
        """Every model, or only those that are ready."""
        request = oip.RepositoryIndexRequest(ready=ready)
        with typed_errors(caller.notes):
            return await self._stub.RepositoryIndex(
                request, metadata=caller.metadata(), timeout=left_s(caller)
            )

    async def load(self, name: str, parameters: Parameters, caller: Caller) -> None:
        """Load a model; returns once it is ready."""
        request = oip.RepositoryModelLoadRequest(model_name=name, parameters=parameters)
        with typed_errors(caller.notes):
            await self._stub.RepositoryModelLoad(request, metadata=caller.metadata(), timeout=left_s(caller))

    async def unload(self, name: str, parameters: Parameters, caller: Caller) -> None:
        """Take a model out of memory; returns once it has left."""
        request = oip.RepositoryModelUnloadRequest(model_name=name, parameters=parameters)
        with typed_errors(caller.notes):
            await self._stub.RepositoryModelUnload(
                request, metadata=caller.metadata(), timeout=left_s(caller)
            )

    async def is_ready(self, caller: Caller) -> bool:
        """Whether the gateway takes inference calls; False if it cannot be asked."""
        try:
            answer = await self._stub.ServerReady(oip.ServerReadyRequest(), timeout=left_s(caller))
        except grpc.aio.AioRpcError:
            return False
        return answer.ready
