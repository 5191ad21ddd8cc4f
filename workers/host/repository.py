"""The model repository of the Open Inference Protocol (Triton's extension): index, load, unload."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from inference_mesh.deadlines import deadline_of
from inference_mesh.errors import InvalidInputError
from inference_mesh.messages import parsed, serialized
from inference_mesh.oip import open_inference_pb2 as oip
from workers.host.hosted import Hosted
from workers.host.keeper import Keeper
from workers.host.residency import Phase

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

STATES = {
    Phase.COLD: "UNAVAILABLE",
    Phase.LOADING: "LOADING",
    Phase.READY: "READY",
    Phase.UNLOADING: "UNLOADING",
    Phase.FAILED: "UNAVAILABLE",
}

WITHOUT_EFFECT = frozenset({"unload_dependents"})
"""Parameters that Triton's clients always send, and that change nothing: no model depends on another."""


class Repository:
    """Handlers over raw bytes."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def methods(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """Methods of GRPCInferenceService that steer what is in memory."""
        found = {
            "RepositoryIndex": self.index,
            "RepositoryModelLoad": self.load,
            "RepositoryModelUnload": self.unload,
        }
        return {
            name: grpc.unary_unary_rpc_method_handler(method, None, serialized)
            for name, method in found.items()
        }

    async def index(self, data: bytes, context: Context) -> oip.RepositoryIndexResponse:
        """Every model, or only those that are ready."""
        request = parsed(oip.RepositoryIndexRequest, data)
        found = [hosted for _, hosted in sorted(self._keeper.hosted.items())]
        if request.ready:
            found = [hosted for hosted in found if hosted.phase is Phase.READY]
        return oip.RepositoryIndexResponse(models=[_entry(hosted) for hosted in found])

    async def load(self, data: bytes, context: Context) -> oip.RepositoryModelLoadResponse:
        """Load a model. Raises what a call to it would raise."""
        request = parsed(oip.RepositoryModelLoadRequest, data)
        async with self._keeper.model(_name_in(request), deadline_of(context)):
            return oip.RepositoryModelLoadResponse()

    async def unload(self, data: bytes, context: Context) -> oip.RepositoryModelUnloadResponse:
        """Take a model out of memory."""
        request = parsed(oip.RepositoryModelUnloadRequest, data)
        await self._keeper.unload(_name_in(request))
        return oip.RepositoryModelUnloadResponse()


def _name_in(request: oip.RepositoryModelLoadRequest | oip.RepositoryModelUnloadRequest) -> str:
    """The model that is meant, in Triton's form or in KServe's."""
    unknown = sorted(request.parameters.keys() - WITHOUT_EFFECT)
    if unknown:
        raise InvalidInputError(
            f"parameters: '{unknown[0][:64]}' is not supported; the host's own file has them"
        )
    name = request.model_name or request.repository_name
    if not name:
        raise InvalidInputError("model_name: is missing")
    return name


def _entry(hosted: Hosted) -> oip.RepositoryIndexResponse.ModelIndex:
    return oip.RepositoryIndexResponse.ModelIndex(
        name=hosted.name,
        version=hosted.model.version,
        state=STATES[hosted.phase],
        reason=hosted.failure.message if hosted.failure is not None else "",
    )
