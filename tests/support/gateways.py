"""A gateway inside the test, its registry file, and a client that shows statuses whole."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import yaml

from gateway.server import Gateway
from gateway.settings import GatewaySettings
from inference_mesh.channels import open_channel
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2
from tests.fakes.fake_worker import FakeWorker


@dataclasses.dataclass
class RunningGateway:
    """A gateway that serves, and a channel to it."""

    gateway: Gateway
    channel: grpc.aio.Channel
    models_file: Path

    @property
    def stub(self) -> Any:
        """Client of InferenceService."""
        return inference_pb2_grpc.InferenceServiceStub(self.channel)

    def metric(self, name: str, **labels: str) -> float:
        """Value of one metric; 0 if it has no such sample."""
        return self.gateway.metrics.registry.get_sample_value(name, labels) or 0.0

    async def wait_until_ready(self, model: str, *workers: Any, limit_s: float = 10.0) -> None:
        """Wait until the gateway has found each of these workers ready; workers: what has a `target`."""
        async with asyncio.timeout(limit_s):
            for worker in workers:
                while not self.metric("mesh_gateway_endpoint_ready", model=model, endpoint=worker.target):
                    await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running_gateway(
    folder: Path, models: Sequence[dict[str, Any]], **settings: Any
) -> AsyncIterator[RunningGateway]:
    """A gateway of these registry entries on free ports, stopped with the block."""
    models_file = folder / "models.yaml"
    write_models(models_file, models)
    gateway = Gateway(GatewaySettings(models=models_file, grpc_port=0, http_port=0, **settings))
    await gateway.start()
    channel = open_channel(f"127.0.0.1:{gateway.grpc_port}")
    try:
        yield RunningGateway(gateway, channel, models_file)
    finally:
        await channel.close()
        await gateway.drain()
        await gateway.stop(0.2)


@contextlib.asynccontextmanager
async def running_worker(name: str, *, label: str = "", port: int = 0) -> AsyncIterator[FakeWorker]:
    """A fake worker inside the test."""
    worker = FakeWorker(name, label=label, port=port)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


def write_models(path: Path, models: Sequence[dict[str, Any]]) -> None:
    """Replace models.yaml in one step."""
    temporary = path.with_suffix(".new")
    temporary.write_text(yaml.safe_dump(list(models)))
    temporary.replace(path)


def entry(name: str, *workers: Any, **fields: Any) -> dict[str, Any]:
    """A registry entry with fixed endpoints; workers: what has a `target`, or host:port."""
    targets = [getattr(worker, "target", worker) for worker in workers]
    return {"name": name, "endpoints": targets, **fields}


def prompt(model: str, commands: str = "", **fields: Any) -> inference_pb2.InferRequest:
    """A request whose prompt is the commands of the fake worker."""
    payload = payload_pb2.Payload(generate=payload_pb2.Generate(prompt=commands))
    return inference_pb2.InferRequest(model=model, payload=payload, **fields)


def stream_prompt(model: str, commands: str = "") -> inference_pb2.InferStreamRequest:
    """The same for a stream."""
    payload = payload_pb2.Payload(generate=payload_pb2.Generate(prompt=commands))
    return inference_pb2.InferStreamRequest(model=model, payload=payload)


def facts(response: Any) -> dict[str, Any]:
    """What the fake worker tells of the call."""
    told: dict[str, Any] = json.loads(response.output.json)
    return told


async def status_of(call: Any) -> grpc.aio.AioRpcError:
    """The status that a call fails with. Fails itself if the call succeeds."""
    try:
        if hasattr(call, "__await__"):
            await call
        else:
            async for _ in call:
                pass
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the call succeeded")
