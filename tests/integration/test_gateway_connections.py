"""Connections to several gateways behind one name, and to one that lets go of old ones."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import grpc
import psutil

from inference_mesh.channels import open_balanced_channel
from inference_mesh.v1 import inference_pb2_grpc
from tests.support.gateways import (
    RunningGateway,
    entry,
    prompt,
    running_gateway,
    running_worker,
    stream_prompt,
)


def address_of(mesh: RunningGateway) -> str:
    return f"127.0.0.1:{mesh.gateway.grpc_port}"


def ports_connected_to(port: int) -> set[int]:
    """Of this process, whose ends of the connections both are."""
    found = psutil.Process().net_connections("tcp")
    return {
        one.laddr.port for one in found if one.status == psutil.CONN_ESTABLISHED and one.raddr.port == port
    }


async def test_calls_to_a_name_go_to_all_of_its_gateways_in_turn(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path / "a", [entry("one", one)]) as first,
        running_gateway(tmp_path / "b", [entry("one", one)]) as second,
    ):
        channel = open_balanced_channel(f"ipv4:{address_of(first)},{address_of(second)}")
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        for _ in range(20):
            await stub.Infer(prompt("one"), wait_for_ready=True)
        counted = [
            mesh.metric("mesh_gateway_requests_total", model="one", method="Infer", code="OK")
            for mesh in (first, second)
        ]
        await channel.close()
    assert sum(counted) == 20
    assert min(counted) >= 8


async def test_a_connection_that_gets_old_is_replaced_and_no_call_notices(tmp_path: Path) -> None:
    ends: Counter[grpc.StatusCode] = Counter()
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path, [entry("one", one)], max_connection_age_s=0.3) as mesh,
    ):
        channel = open_balanced_channel(address_of(mesh))
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        loop = asyncio.get_running_loop()
        until_s = loop.time() + 3
        connections: set[int] = set()

        async def ask() -> None:
            while loop.time() < until_s:
                call = stub.Infer(prompt("one"))
                ends[await call.code()] += 1

        async def watch() -> None:
            while loop.time() < until_s:
                connections.update(ports_connected_to(mesh.gateway.grpc_port))
                await asyncio.sleep(0.1)

        async def read() -> None:
            call = stub.InferStream(stream_prompt("one", "tokens=30 gap=0.1"))
            pieces = [piece async for piece in call]
            ends[await call.code()] += 1
            assert len(pieces) > 30

        await asyncio.gather(read(), watch(), *(ask() for _ in range(16)))
        await channel.close()
    assert set(ends) == {grpc.StatusCode.OK}, ends
    assert ends.total() > 200
    assert len(connections) > 4
