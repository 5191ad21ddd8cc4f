"""The listing methods of InferenceService: which models there are, and whether they are ready.

Owns the answers. What only a worker knows of a model (its task, its tensors) is asked once
and kept with the replica that said it.
"""

from __future__ import annotations

import asyncio

import grpc

from gateway.call import Context
from gateway.front.desk import CallDesk
from gateway.front.visible_models import VisibleModels
from gateway.upstream.endpoints import GrpcEndpoint
from gateway.upstream.fleet import HttpModel, Model
from gateway.upstream.pool import EndpointPool
from inference_mesh.json_payload import TASK_NAMES
from inference_mesh.messages import parsed
from inference_mesh.v1 import inference_pb2, payload_pb2


class ListingServicer:
    """Handlers of the listing methods, over raw bytes as the data path's."""

    def __init__(self, desk: CallDesk, models: VisibleModels) -> None:
        self._desk = desk
        self._models = models

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """Handlers of InferenceService's listing methods, by method."""
        return {
            "ListModels": grpc.unary_unary_rpc_method_handler(self.list_models),
            "GetModel": grpc.unary_unary_rpc_method_handler(self.get_model),
        }

    async def list_models(self, message: bytes, context: Context) -> bytes:
        """InferenceService.ListModels."""
        with self._desk.observed("ListModels", context) as call:
            caller = await self._desk.identify(call)
            parsed(inference_pb2.ListModelsRequest, message)
            shown = self._models.models(caller)
            models = await asyncio.gather(*(self._described(model) for model in shown))
            return inference_pb2.ListModelsResponse(models=models).SerializeToString()

    async def get_model(self, message: bytes, context: Context) -> bytes:
        """InferenceService.GetModel."""
        with self._desk.observed("GetModel", context) as call:
            caller = await self._desk.identify(call)
            request = parsed(inference_pb2.GetModelRequest, message)
            model = await self._described(self._models.find(caller, request.model, request.version))
            return inference_pb2.GetModelResponse(model=model).SerializeToString()

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
