"""A worker that refuses every call with one of the mesh's errors, as real workers word them."""

from __future__ import annotations

from typing import Any

import grpc

from inference_mesh.channels import server_options
from inference_mesh.errors import MeshError
from inference_mesh.health_board import HEALTH_SERVICE, HealthBoard
from inference_mesh.status_interceptor import StatusInterceptor
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc

_Servicer: Any = inference_pb2_grpc.InferenceServiceServicer
# As Any: the stubs demand every method, and this leaves some UNIMPLEMENTED.


class RefusingWorker(_Servicer):  # type: ignore[misc]
    """One server for one model."""

    def __init__(self, name: str, error: MeshError) -> None:
        self.calls = 0
        self.target = ""
        self._error = error
        self._health = HealthBoard(lambda: {name: True})
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen and report SERVING."""
        self._server = grpc.aio.server(interceptors=(StatusInterceptor(),), options=server_options())
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(self, self._server)
        handler = grpc.method_handlers_generic_handler(HEALTH_SERVICE, self._health.handlers())
        self._server.add_generic_rpc_handlers((handler,))
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        self._health.serve()

    async def stop(self) -> None:
        """Stop listening."""
        self._health.close()
        if self._server is not None:
            await self._server.stop(0)

    async def Infer(self, request: inference_pb2.InferRequest, context: Any) -> inference_pb2.InferResponse:
        """Its error."""
        self.calls += 1
        raise self._error
