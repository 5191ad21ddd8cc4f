"""Planned change: workers and gateways are restarted under load, and nobody notices."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest

from inference_mesh.channels import channel_options
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2
from tests.e2e.faults.conftest import Paced, Scale, entry, write_yaml
from tests.support.processes import MeshProcess

pytestmark = pytest.mark.faults

ROUND_ROBIN = '{"loadBalancingConfig": [{"round_robin": {}}]}'
TOKENS = 20


class Load:
    """Unary calls at a rate and streams side by side, over both gateways, until it is stopped."""

    def __init__(self, ports: list[int]) -> None:
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
        self._channel = grpc.aio.insecure_channel(
            f"ipv4:{addresses}", options=[*channel_options(), ("grpc.service_config", ROUND_ROBIN)]
        )
        self._stub: Any = inference_pb2_grpc.InferenceServiceStub(self._channel)
        self.unary, self.streams, self.failed, self.cut = 0, 0, list[str](), 0
        self.is_over = False

    async def run(self, *, unary_per_s: float, streams: int) -> None:
        """Send until it is over, then let everything come to its end."""
        async with asyncio.TaskGroup() as group:
            for _ in range(streams):
                group.create_task(self._stream_after_stream())
            while not self.is_over:
                group.create_task(self._one())
                await asyncio.sleep(1 / unary_per_s)
        await self._channel.close()

    async def _one(self) -> None:
        request = inference_pb2.InferRequest(model="chat", payload=_payload(1))
        try:
            await self._stub.Infer(request, timeout=10)
        except grpc.aio.AioRpcError as error:
            self.failed.append(f"Infer {error.code().name}: {error.details()}")
        self.unary += 1

    async def _stream_after_stream(self) -> None:
        request = inference_pb2.InferStreamRequest(model="chat", payload=_payload(TOKENS))
        while not self.is_over:
            tokens: list[int] = []
            try:
                async for piece in self._stub.InferStream(request, timeout=30):
                    tokens += piece.output.generate.tokens
            except grpc.aio.AioRpcError as error:
                self.failed.append(f"InferStream {error.code().name}: {error.details()}")
            self.cut += tokens != list(range(TOKENS))
            self.streams += 1


def _payload(tokens: int) -> payload_pb2.Payload:
    """Neither greedy nor seeded, so that no resuming hides a stream that was cut."""
    return payload_pb2.Payload(generate=payload_pb2.Generate(prompt="a", max_tokens=tokens))


async def test_f9_rolling_restarts_of_workers_and_gateways_fail_no_call_and_cut_no_stream(
    paced: Paced, tmp_path: Path, scale: Scale
) -> None:
    workers = paced.workers(2, slots=64, service_s=0.005, token_gap_s=0.05)
    models = write_yaml(tmp_path / "models.yaml", {"version": 1, "models": [entry(workers)]})
    gateways = [_gateway(paced, models, 0) for _ in range(2)]
    load = Load([gateway.grpc for gateway in gateways])
    running = asyncio.ensure_future(load.run(unary_per_s=scale.of(60, 200), streams=int(scale.of(15, 50))))
    await asyncio.sleep(1.0)
    for _ in range(int(scale.of(1, 3))):
        for index, worker in enumerate(workers):
            workers[index] = await asyncio.to_thread(_restarted_worker, paced, worker)
            await asyncio.sleep(1.0)
        for index, gateway in enumerate(gateways):
            gateways[index] = await asyncio.to_thread(_restarted_gateway, paced, models, gateway)
            await asyncio.sleep(1.5)
    load.is_over = True
    await running
    assert load.unary > scale.of(200, 2000)
    assert load.streams > scale.of(30, 300)
    assert load.failed == []
    assert load.cut == 0


def _gateway(paced: Paced, models: Path, port: int) -> MeshProcess:
    gateway = paced.group.start(
        "gateway",
        *("--models", str(models), "--grpc-port", str(port), "--http-port", "0"),
        *("--drain-delay-s", "0.5"),
    )
    gateway.wait_until_ready()
    return gateway


def _restarted_worker(paced: Paced, worker: MeshProcess) -> MeshProcess:
    worker.signal(signal.SIGTERM)
    assert worker.popen.wait(30) == 0
    return paced.worker(slots=64, service_s=0.005, token_gap_s=0.05, port=worker.grpc)


def _restarted_gateway(paced: Paced, models: Path, gateway: MeshProcess) -> MeshProcess:
    gateway.signal(signal.SIGTERM)
    assert gateway.popen.wait(40) == 0
    return _gateway(paced, models, gateway.grpc)
