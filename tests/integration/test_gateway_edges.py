"""The gateway's edges: the address that it listens on, and replicas that are no more."""

from __future__ import annotations

import asyncio
import random
import socket
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gateway.policy.routing.outliers import Fault
from gateway.server import Gateway
from gateway.settings import GatewaySettings
from gateway.upstream.metrics import UpstreamMetrics
from gateway.upstream.pool import grpc_pool
from gateway.upstream.worker_connections import WorkerConnections
from inference_mesh.background import Background
from inference_mesh.channels import open_channel
from tests.support.gateways import entry, running_worker, write_models


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
async def test_it_listens_on_an_ipv6_address(tmp_path: Path) -> None:
    write_models(tmp_path / "models.yaml", [entry("one", "127.0.0.1:1")])
    settings = GatewaySettings(models=tmp_path / "models.yaml", host="::1", grpc_port=0, http_port=0)
    gateway = Gateway(settings)
    await gateway.start()
    try:
        async with open_channel(f"[::1]:{gateway.grpc_port}") as channel:
            await asyncio.wait_for(channel.channel_ready(), 5)
    finally:
        await gateway.stop(0)


async def test_a_call_that_fails_on_a_removed_replica_leaves_no_series_of_it() -> None:
    registry, background = CollectorRegistry(), Background()
    metrics = UpstreamMetrics(registry)
    await background.open()
    async with running_worker("one") as one:
        pool = grpc_pool("one", WorkerConnections(), background, metrics, lambda: None)
        await pool.set_addresses([one.target])
        (removed,) = pool.endpoints
        await pool.set_addresses([])
        pool.note_fault(removed, Fault.LOST, 1.0, 2.0, random.Random(1))
        labels = {"model": "one", "endpoint": one.target}
        assert registry.get_sample_value("mesh_gateway_ejections_total", labels) is None
    await background.close()
