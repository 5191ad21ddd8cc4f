"""The model repository of the Open Inference Protocol: what there is, and what is to be in memory.

Owns the index. Loading and unloading is the business of the hosts behind a model, and needs the
scope "admin"; a worker that has one model for its life says that it cannot.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from gateway.call import Call, Context
from gateway.front.desk import CallDesk
from gateway.front.refusals import error_of
from gateway.policy.engine import ADMIN_SCOPE, PolicyEngine, authorise
from gateway.upstream.endpoints import GrpcEndpoint
from gateway.upstream.fleet import Fleet, Model
from inference_mesh.deadlines import deadline_of, remaining_s
from inference_mesh.error_status import error_from_rpc
from inference_mesh.errors import InvalidInputError, ModelNotFoundError, UnavailableError, UnsupportedError
from inference_mesh.messages import parsed
from inference_mesh.metadata import MODEL
from inference_mesh.oip import open_inference_pb2 as oip

LONGEST_STEP_S = 600.0
"""How long a load may take where the caller says nothing."""

Request = oip.RepositoryModelLoadRequest | oip.RepositoryModelUnloadRequest


class RepositoryServicer:
    """Handlers over raw bytes, as the data path's."""

    def __init__(self, desk: CallDesk, policy: PolicyEngine, fleet: Fleet) -> None:
        self._desk = desk
        self._policy = policy
        self._fleet = fleet

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """Handlers of GRPCInferenceService's methods, by method."""
        return {
            "RepositoryIndex": grpc.unary_unary_rpc_method_handler(self.index),
            "RepositoryModelLoad": grpc.unary_unary_rpc_method_handler(self.load),
            "RepositoryModelUnload": grpc.unary_unary_rpc_method_handler(self.unload),
        }

    async def index(self, message: bytes, context: Context) -> bytes:
        """GRPCInferenceService.RepositoryIndex: the models that the caller may use."""
        with self._desk.observed("RepositoryIndex", context) as call:
            caller = await self._desk.identify(call)
            request = parsed(oip.RepositoryIndexRequest, message)
            visible = {entry.name for entry in self._policy.visible_to(caller)}
            shown = [target for target in self._fleet.targets if target.entry.name in visible]
            entries = [_entry(model) for model in shown if model.pool.ready or not request.ready]
            return oip.RepositoryIndexResponse(models=entries).SerializeToString()

    async def load(self, message: bytes, context: Context) -> bytes:
        """GRPCInferenceService.RepositoryModelLoad."""
        with self._desk.observed("RepositoryModelLoad", context) as call:
            await self._authorise(call)
            request = parsed(oip.RepositoryModelLoadRequest, message)
            return await self._all(request, "RepositoryModelLoad", context)

    async def unload(self, message: bytes, context: Context) -> bytes:
        """GRPCInferenceService.RepositoryModelUnload."""
        with self._desk.observed("RepositoryModelUnload", context) as call:
            await self._authorise(call)
            request = parsed(oip.RepositoryModelUnloadRequest, message)
            return await self._all(request, "RepositoryModelUnload", context)

    async def _authorise(self, call: Call) -> None:
        """Raises UnauthenticatedError and ForbiddenError."""
        refusal = authorise(await self._desk.identify(call), ADMIN_SCOPE)
        if refusal is not None:
            raise error_of(refusal)

    async def _all(self, request: Request, method: str, context: Context) -> bytes:
        """Ask every replica of the model. Raises what the first that refuses says."""
        # KServe has the model's name in field 1, Triton in field 2.
        name = request.model_name or request.repository_name
        if not name:
            raise InvalidInputError("model_name: is missing")
        models = [model for model in self._fleet.models if model.entry.name == name]
        if not models:
            raise ModelNotFoundError(f"there is no model '{name[:64]}'")
        replicas = [one for model in models for one in model.pool.ready if isinstance(one, GrpcEndpoint)]
        if not replicas:
            raise UnavailableError(f"model '{name}' has no replica that answers", retry_after_s=1.0)
        timeout_s = min(remaining_s(deadline_of(context)) or LONGEST_STEP_S, LONGEST_STEP_S)
        data = request.SerializeToString()
        await asyncio.gather(*(_ask(replica, method, data, timeout_s) for replica in replicas))
        return b""  # both answers are empty


async def _ask(replica: GrpcEndpoint, method: str, data: bytes, timeout_s: float) -> None:
    ask: Any = replica.channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
    try:
        await ask(data, metadata=((MODEL, replica.model),), timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise UnsupportedError(
                f"model '{replica.model}' has a worker of its own, which holds it as long as it lives"
            ) from None
        raise error_from_rpc(error) from None


def _entry(model: Model) -> oip.RepositoryIndexResponse.ModelIndex:
    is_ready = bool(model.pool.ready)
    return oip.RepositoryIndexResponse.ModelIndex(
        name=model.entry.name,
        version=model.version,
        state="READY" if is_ready else "UNAVAILABLE",
        reason="" if is_ready else "no replica answers",
    )
