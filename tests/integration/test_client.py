"""The public client against a gateway whose workers come and change."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from inference_mesh.client import MeshClient
from inference_mesh.errors import UnavailableError
from tests.support.gateways import entry, running_gateway, running_worker


async def test_a_client_that_was_there_before_the_worker_is_served_once_it_is_up(tmp_path: Path) -> None:
    async with running_worker("one") as gone:
        port = gone.port
    async with (
        running_gateway(tmp_path, [entry("one", f"127.0.0.1:{port}")]) as mesh,
        MeshClient(f"127.0.0.1:{mesh.gateway.grpc_port}") as client,
    ):
        with pytest.raises(UnavailableError):
            await client.infer("one", "a text")
        async with running_worker("one", port=port):
            async with asyncio.timeout(10):
                while not mesh.metric(
                    "mesh_gateway_endpoint_ready", model="one", endpoint=f"127.0.0.1:{port}"
                ):
                    await asyncio.sleep(0.02)
            assert (await client.infer("one", "a text")).model == "one"
