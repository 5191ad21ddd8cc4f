"""What a host answers itself: its models, their readiness, and the model repository.

A model that is not in memory is ready all the same: it can be asked, and then is loaded.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from inference_mesh import json_payload
from inference_mesh.installed_version import installed_version
from inference_mesh.messages import parsed, serialized
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.v1 import inference_pb2
from workers.host.hosted import Hosted
from workers.host.keeper import Keeper
from workers.host.residency import Phase

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Handlers: TypeAlias = "dict[str, grpc.RpcMethodHandler[Any, Any]]"

RUNTIMES = {"llama": "llama.cpp", "onnx": "onnxruntime"}
SERVER_NAME = "inference-mesh-host"
EXTENSIONS = ("model_repository", "parameters")
"""Triton's names of what is spoken beside the protocol itself."""


class Listing:
    """Handlers over raw bytes."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def native_methods(self) -> Handlers:
        """Methods of InferenceService that need no worker."""
        return {
            "ListModels": grpc.unary_unary_rpc_method_handler(self.list_models, None, serialized),
            "GetModel": grpc.unary_unary_rpc_method_handler(self.get_model, None, serialized),
        }

    def oip_methods(self) -> Handlers:
        """Methods of GRPCInferenceService that need no worker."""
        methods = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ServerMetadata": self.server_metadata,
            "ModelReady": self.model_ready,
        }
        return {
            name: grpc.unary_unary_rpc_method_handler(method, None, serialized)
            for name, method in methods.items()
        }

    async def list_models(self, data: bytes, context: Context) -> inference_pb2.ListModelsResponse:
        """All models, in memory or not."""
        parsed(inference_pb2.ListModelsRequest, data)
        models = [described(hosted) for _, hosted in sorted(self._keeper.hosted.items())]
        return inference_pb2.ListModelsResponse(models=models)

    async def get_model(self, data: bytes, context: Context) -> inference_pb2.GetModelResponse:
        """One model."""
        request = parsed(inference_pb2.GetModelRequest, data)
        return inference_pb2.GetModelResponse(model=described(self._keeper.find(request.model)))

    async def server_live(self, data: bytes, context: Context) -> oip.ServerLiveResponse:
        """The process runs."""
        return oip.ServerLiveResponse(live=True)

    async def server_ready(self, data: bytes, context: Context) -> oip.ServerReadyResponse:
        """Calls are taken."""
        return oip.ServerReadyResponse(ready=True)

    async def server_metadata(self, data: bytes, context: Context) -> oip.ServerMetadataResponse:
        """Name, version and extensions."""
        return oip.ServerMetadataResponse(
            name=SERVER_NAME, version=installed_version(), extensions=EXTENSIONS
        )

    async def model_ready(self, data: bytes, context: Context) -> oip.ModelReadyResponse:
        """Whether a model can be asked."""
        request = parsed(oip.ModelReadyRequest, data)
        return oip.ModelReadyResponse(ready=can_be_asked(self._keeper.find(request.name)))


def can_be_asked(hosted: Hosted) -> bool:
    """False only while the model is known to fail."""
    return hosted.phase is not Phase.FAILED


def described(hosted: Hosted) -> inference_pb2.Model:
    """The model as its entry says; what only its worker knows is left out."""
    model = hosted.model
    return inference_pb2.Model(
        name=model.name,
        version=model.version,
        task=json_payload.TASK_NAMES[model.task],
        ready=can_be_asked(hosted),
        runtime=RUNTIMES[model.runtime],
    )
