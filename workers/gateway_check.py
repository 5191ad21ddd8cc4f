"""Who may call a worker that knows its gateways by the names in their certificates.

Every other caller is refused in every method, health and reflection included: a gateway that is
not one finds no replica ready, instead of failing its callers' calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from inference_mesh.errors import UnauthenticatedError
from inference_mesh.peer_certificate import certificate_names

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class GatewayCheck(grpc.aio.ServerInterceptor):
    """Lets callers in whose certificate has one of these names; behind the StatusInterceptor."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler of the call, behind the check."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        kind = next(kind for kind in KINDS if getattr(handler, kind) is not None)
        inner = getattr(handler, kind)

        def checked(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            self._check(context)
            return inner(request, context)

        return handler._replace(**{kind: checked})

    def _check(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Raise UnauthenticatedError unless a gateway calls."""
        if self._names.isdisjoint(certificate_names(context.auth_context())):
            raise UnauthenticatedError
