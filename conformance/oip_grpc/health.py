"""Health: the server's and a model's."""

from __future__ import annotations

import grpc

from conformance.checks import expect, expect_same
from conformance.doors import refused
from conformance.oip_grpc.server import OIP_GRPC, UNKNOWN_MODEL, OipServer
from inference_mesh.oip import open_inference_pb2 as oip


@OIP_GRPC.check
async def server_is_live(server: OipServer) -> None:
    """ServerLive says true."""
    answer = await server.stub.ServerLive(oip.ServerLiveRequest(), metadata=server.metadata)
    expect_same(answer.live, True, "live")


@OIP_GRPC.check
async def server_is_ready(server: OipServer) -> None:
    """ServerReady says true."""
    answer = await server.stub.ServerReady(oip.ServerReadyRequest(), metadata=server.metadata)
    expect_same(answer.ready, True, "ready")


@OIP_GRPC.check
async def model_is_ready(server: OipServer) -> None:
    """ModelReady of a model that is served says true."""
    request = oip.ModelReadyRequest(name=(await server.tensor_model()).name)
    answer = await server.stub.ModelReady(request, metadata=server.metadata)
    expect_same(answer.ready, True, "ready")


@OIP_GRPC.check
async def unknown_model_is_not_ready(server: OipServer) -> None:
    """ModelReady of a model that does not exist says false, or ends with NOT_FOUND."""
    call = server.stub.ModelReady(oip.ModelReadyRequest(name=UNKNOWN_MODEL), metadata=server.metadata)
    try:
        expect(not (await call).ready, "ready is true")
    except grpc.aio.AioRpcError:
        await refused(call, grpc.StatusCode.NOT_FOUND)
