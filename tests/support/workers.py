"""A worker's servers around a given engine, in the test's own event loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from inference_mesh.channels import open_channel
from inference_mesh.client_tls import ClientTls
from workers.engine import Engine
from workers.metrics import WorkerMetrics
from workers.server import WorkerService
from workers.settings import WorkerSettings


class ServedWorker:
    """A running worker, a channel to it and the URL of its HTTP port."""

    def __init__(self, service: WorkerService, channel: grpc.aio.Channel) -> None:
        self.service = service
        self.channel = channel
        self.target = f"127.0.0.1:{service.grpc_port}"
        self.url = f"http://127.0.0.1:{service.http_port}"


@contextlib.asynccontextmanager
async def served_worker(
    engine: Engine,
    *,
    max_message_bytes: int = 1 << 20,
    tls: ClientTls | None = None,
    **settings: Any,
) -> AsyncIterator[ServedWorker]:
    """A worker on free ports; stopped with the block. tls: of the channel to it."""
    name = engine.model.name
    told = WorkerSettings(
        model=Path("unused"),
        name=name,
        runtime="onnx",
        grpc_port=0,
        http_port=0,
        max_message_bytes=max_message_bytes,
        **settings,
    )
    service = WorkerService(told, engine, WorkerMetrics(name))
    await service.start()
    async with open_channel(f"127.0.0.1:{service.grpc_port}", tls=tls) as channel:
        try:
            yield ServedWorker(service, channel)
        finally:
            await service.stop(0)
