"""What the gateway answers itself: which models there are, and whether they are ready.

Owns the answers. What only a worker knows of a model (its task, its tensors) is asked once
and kept with the replica that said it.
"""

from __future__ import annotations

import asyncio

import grpc

from gateway.call import Context
from gateway.front.desk import CallDesk
from gateway.front.refusals import error_of
from gateway.policy.engine import PolicyEngine
from gateway.policy.facts import Caller, CallFacts, Refuse
from gateway.upstream.endpoints import GrpcEndpoint
from gateway.upstream.fleet import Fleet, HttpModel, Model
from gateway.upstream.pool import EndpointPool
from inference_mesh.errors import ModelNotFoundError
from inference_mesh.json_payload import TASK_NAMES
from inference_mesh.messages import parsed
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.v1 import inference_pb2, payload_pb2

SERVER_NAME = "inference-mesh"
SERVER_VERSION = "1"


class ListingServicer:
    """Handlers of the listing methods, over raw bytes as the data path's."""

    def __init__(self, desk: CallDesk, policy: PolicyEngine, fleet: Fleet) -> None:
        self._desk = desk
        self._policy = policy
        self._fleet = fleet

    def native_handlers(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """Handlers of InferenceService's listing methods, by method."""
        return {
            "ListModels": grpc.unary_unary_rpc_method_handler(self.list_models),
            "GetModel": grpc.unary_unary_rpc_method_handler(self.get_model),
        }

    def oip_handlers(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """Handlers of GRPCInferenceService's methods that need no worker, by method."""
        return {
            "ServerLive": grpc.unary_unary_rpc_method_handler(self.server_live),
            "ServerReady": grpc.unary_unary_rpc_method_handler(self.server_ready),
            "ServerMetadata": grpc.unary_unary_rpc_method_handler(self.server_metadata),
            "ModelReady": grpc.unary_unary_rpc_method_handler(self.model_ready),
        }

    async def list_models(self, message: bytes, context: Context) -> bytes:
        """InferenceService.ListModels."""
        with self._desk.observed("ListModels", context) as call:
            caller = await self._desk.identify(call)
            parsed(inference_pb2.ListModelsRequest, message)
            visible = {entry.name for entry in self._policy.visible_to(caller)}
            shown = [model for model in self._fleet.models if model.entry.name in visible]
            models = await asyncio.gather(*(self._described(model) for model in shown))
            return inference_pb2.ListModelsResponse(models=models).SerializeToString()

    async def get_model(self, message: bytes, context: Context) -> bytes:
        """InferenceService.GetModel."""
        with self._desk.observed("GetModel", context) as call:
            caller = await self._desk.identify(call)
            request = parsed(inference_pb2.GetModelRequest, message)
            model = await self._described(self._found(caller, request.model, request.version))
            return inference_pb2.GetModelResponse(model=model).SerializeToString()

    async def server_live(self, message: bytes, context: Context) -> bytes:
        """GRPCInferenceService.ServerLive; needs no key."""
        parsed(oip.ServerLiveRequest, message)
        return oip.ServerLiveResponse(live=True).SerializeToString()

    async def server_ready(self, message: bytes, context: Context) -> bytes:
        """GRPCInferenceService.ServerReady; needs no key."""
        parsed(oip.ServerReadyRequest, message)
        return oip.ServerReadyResponse(ready=bool(self._fleet.models)).SerializeToString()

    async def server_metadata(self, message: bytes, context: Context) -> bytes:
        """GRPCInferenceService.ServerMetadata."""
        with self._desk.observed("ServerMetadata", context) as call:
            await self._desk.identify(call)
            parsed(oip.ServerMetadataRequest, message)
            return oip.ServerMetadataResponse(name=SERVER_NAME, version=SERVER_VERSION).SerializeToString()

    async def model_ready(self, message: bytes, context: Context) -> bytes:
        """GRPCInferenceService.ModelReady."""
        with self._desk.observed("ModelReady", context) as call:
            caller = await self._desk.identify(call)
            request = parsed(oip.ModelReadyRequest, message)
            is_ready = bool(self._found(caller, request.name, request.version).pool.ready)
            return oip.ModelReadyResponse(ready=is_ready).SerializeToString()

    def _found(self, caller: Caller, name: str, version: str) -> Model:
        """The model of a name, if the caller may use it. Raises ModelNotFoundError, InvalidInputError."""
        route = self._policy.find(caller, CallFacts(name, version, 0, 0.0, 0.0), self._desk.draw())
        if isinstance(route, Refuse):
            raise error_of(route)
        model = self._fleet.target(route.model.name, route.version)
        if model is None:
            raise ModelNotFoundError(f"there is no model '{route.model.name}'")
        return model

    async def _described(self, model: Model) -> inference_pb2.Model:
        """The registry's entry, completed by what a worker said of itself."""
        described = inference_pb2.Model()
        if isinstance(model, HttpModel):
            described.task, described.runtime = payload_pb2.TASK_JSON, "http"
        else:
            described.CopyFrom(await _learned(model.pool))
        entry = model.entry
        if entry.task is not None:
            described.task = TASK_NAMES[entry.task]
        described.name, described.ready = entry.name, bool(model.pool.ready)
        described.version = model.version or described.version
        del described.aliases[:]
        described.aliases.extend(entry.aliases)
        return described


async def _learned(pool: EndpointPool[GrpcEndpoint]) -> inference_pb2.Model:
    """What a ready worker of the model says of it, or what the last one said."""
    for endpoint in pool.ready:
        if endpoint.description is None:
            await endpoint.describe()
        if endpoint.description is not None:
            pool.description = endpoint.description
            break
    return pool.description or inference_pb2.Model()
