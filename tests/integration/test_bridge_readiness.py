"""Whether a bridge is ready is what its gateways say, all of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from inference_mesh.channels import MAX_MESSAGE_BYTES
from rest_bridge.upstream import Upstream

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@contextlib.asynccontextmanager
async def gateways(*states: int) -> AsyncIterator[Upstream]:
    """A bridge's connection to processes that say this of their health."""
    servers, addresses = [], []
    for state in states:
        server = grpc.aio.server()
        servicer = health.aio.HealthServicer()
        await servicer.set("", state)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        servers.append(server)
    upstream = Upstream(f"ipv4:{','.join(addresses)}", MAX_MESSAGE_BYTES)
    try:
        yield upstream
    finally:
        await upstream.close()
        for server in servers:
            await server.stop(None)


async def test_a_bridge_stays_ready_while_one_of_its_gateways_stops() -> None:
    async with gateways(SERVING, NOT_SERVING) as upstream:
        assert {await upstream.health() for _ in range(20)} == {"SERVING"}


@pytest.mark.parametrize("count", [1, 3])
async def test_a_bridge_is_not_ready_while_no_gateway_serves(count: int) -> None:
    async with gateways(*[NOT_SERVING] * count) as upstream:
        assert await upstream.health() == "NOT_SERVING"
