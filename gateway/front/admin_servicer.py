"""AdminService: what operators see and steer. Every call needs the scope "admin"."""

from __future__ import annotations

import grpc

from gateway.call import Call, Context
from gateway.canary.canaries import Canaries
from gateway.front.canary_answers import canary_message
from gateway.front.desk import CallDesk
from gateway.front.refusals import error_of
from gateway.policy.engine import ADMIN_SCOPE, authorise
from gateway.shadow.shadows import Shadows
from inference_mesh.errors import ModelNotFoundError
from inference_mesh.messages import parsed
from inference_mesh.v1 import admin_pb2

ADMIN_SERVICE = "inference_mesh.v1.AdminService"


class AdminServicer:
    """Handlers of AdminService, over raw bytes as the data path's."""

    def __init__(self, desk: CallDesk, canaries: Canaries, shadows: Shadows) -> None:
        self._desk = desk
        self._canaries = canaries
        self._shadows = shadows

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """The handlers by method."""
        methods = {
            "ListCanaries": self.list_canaries,
            "PromoteCanary": self.promote_canary,
            "AbortCanary": self.abort_canary,
            "GetShadowReport": self.get_shadow_report,
        }
        return {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}

    async def list_canaries(self, message: bytes, context: Context) -> bytes:
        """AdminService.ListCanaries."""
        with self._desk.observed("ListCanaries", context) as call:
            await self._authorise(call)
            parsed(admin_pb2.ListCanariesRequest, message)
            canaries = [canary_message(status) for status in await self._canaries.status()]
            return admin_pb2.ListCanariesResponse(canaries=canaries).SerializeToString()

    async def promote_canary(self, message: bytes, context: Context) -> bytes:
        """AdminService.PromoteCanary."""
        with self._desk.observed("PromoteCanary", context) as call:
            await self._authorise(call)
            request = parsed(admin_pb2.PromoteCanaryRequest, message)
            canary = canary_message(await self._canaries.promote(request.model))
            return admin_pb2.PromoteCanaryResponse(canary=canary).SerializeToString()

    async def abort_canary(self, message: bytes, context: Context) -> bytes:
        """AdminService.AbortCanary."""
        with self._desk.observed("AbortCanary", context) as call:
            await self._authorise(call)
            request = parsed(admin_pb2.AbortCanaryRequest, message)
            canary = canary_message(await self._canaries.abort(request.model))
            return admin_pb2.AbortCanaryResponse(canary=canary).SerializeToString()

    async def get_shadow_report(self, message: bytes, context: Context) -> bytes:
        """AdminService.GetShadowReport."""
        with self._desk.observed("GetShadowReport", context) as call:
            await self._authorise(call)
            request = parsed(admin_pb2.GetShadowReportRequest, message)
            report = self._shadows.report(request.model)
            if report is None:
                raise ModelNotFoundError(f"there is no shadow of a model {request.model[:64]!r}")
            return report.message().SerializeToString()

    async def _authorise(self, call: Call) -> None:
        """Raises UnauthenticatedError and ForbiddenError."""
        refusal = authorise(await self._desk.identify(call), ADMIN_SCOPE)
        if refusal is not None:
            raise error_of(refusal)
