"""What the gateway answers itself of the Open Inference Protocol: health, what it speaks, statistics.

Owns the answers. What only a worker knows of a model (ModelMetadata, ModelConfig) goes the way of
the `data_path`; the model repository is `repository_servicer`'s.
"""

from __future__ import annotations

import grpc

from gateway.call import Context
from gateway.front.desk import CallDesk
from gateway.front.open_inference_answers import EXTENSIONS, statistics_of
from gateway.front.visible_models import VisibleModels
from gateway.model_statistics import ModelStatistics
from gateway.policy.facts import Caller
from gateway.upstream.fleet import Model
from inference_mesh.errors import InvalidInputError
from inference_mesh.installed_version import installed_version
from inference_mesh.messages import parsed
from inference_mesh.oip import open_inference_pb2 as oip

SERVER_NAME = "inference-mesh"


class OpenInferenceServicer:
    """Handlers over raw bytes, as the data path's."""

    def __init__(self, desk: CallDesk, models: VisibleModels, statistics: ModelStatistics) -> None:
        self._desk = desk
        self._models = models
        self._statistics = statistics
        self._version = installed_version()

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """Handlers of GRPCInferenceService's methods, by method."""
        return {
            "ServerLive": grpc.unary_unary_rpc_method_handler(self.server_live),
            "ServerReady": grpc.unary_unary_rpc_method_handler(self.server_ready),
            "ServerMetadata": grpc.unary_unary_rpc_method_handler(self.server_metadata),
            "ModelReady": grpc.unary_unary_rpc_method_handler(self.model_ready),
            "ModelStatistics": grpc.unary_unary_rpc_method_handler(self.model_statistics),
        }

    async def server_live(self, message: bytes, context: Context) -> bytes:
        """GRPCInferenceService.ServerLive; needs no key."""
        parsed(oip.ServerLiveRequest, message)
        return oip.ServerLiveResponse(live=True).SerializeToString()

    async def server_ready(self, message: bytes, context: Context) -> bytes:
        """GRPCInferenceService.ServerReady; needs no key."""
        parsed(oip.ServerReadyRequest, message)
        return oip.ServerReadyResponse(ready=self._models.has_any()).SerializeToString()

    async def server_metadata(self, message: bytes, context: Context) -> bytes:
        """GRPCInferenceService.ServerMetadata."""
        with self._desk.observed("ServerMetadata", context) as call:
            await self._desk.identify(call)
            parsed(oip.ServerMetadataRequest, message)
            return oip.ServerMetadataResponse(
                name=SERVER_NAME, version=self._version, extensions=EXTENSIONS
            ).SerializeToString()

    async def model_ready(self, message: bytes, context: Context) -> bytes:
        """GRPCInferenceService.ModelReady."""
        with self._desk.observed("ModelReady", context) as call:
            caller = await self._desk.identify(call)
            request = parsed(oip.ModelReadyRequest, message)
            is_ready = bool(self._models.find(caller, request.name, request.version).pool.ready)
            return oip.ModelReadyResponse(ready=is_ready).SerializeToString()

    async def model_statistics(self, message: bytes, context: Context) -> bytes:
        """GRPCInferenceService.ModelStatistics: what this process counted, of all callers together."""
        with self._desk.observed("ModelStatistics", context) as call:
            caller = await self._desk.identify(call)
            asked = self._asked(caller, parsed(oip.ModelStatisticsRequest, message))
            targets = ((model.entry.name, model.version) for model in asked)
            found = [statistics_of(*target, self._statistics.of(*target)) for target in targets]
            return oip.ModelStatisticsResponse(model_stats=found).SerializeToString()

    def _asked(self, caller: Caller, request: oip.ModelStatisticsRequest) -> list[Model]:
        """The versions that a request means. Raises ModelNotFoundError, InvalidInputError."""
        if request.name and request.version:
            return [self._models.find(caller, request.name, request.version)]
        if request.name:
            return self._models.versions(caller, request.name)
        if request.version:
            raise InvalidInputError("version: needs the name of a model beside it")
        return self._models.targets(caller)
