"""Planned change: workers and gateways are restarted under load, and nobody notices."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from inference_mesh.channels import channel_options
from inference_mesh.client import MeshClient
from inference_mesh.lifecycle import FORCED_EXIT_CODE
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2
from tests.e2e.faults.conftest import Paced, Scale, entry, write_yaml
from tests.support.canaries import marked
from tests.support.leftovers import calls_at
from tests.support.load import Outcome, failures, one_call
from tests.support.processes import MeshProcess, http_status_of, http_text_of, metric_sum, wait_until

pytestmark = pytest.mark.faults

SERVICE_CONFIG = json.dumps(
    {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
)
"""A caller of several gateways hears by grpc.health.v1 that one is about to stop."""
TOKENS = 20
SHORT: dict[str, Any] = {"prompt": "a", "max_tokens": 4, "temperature": 0}


class Load:
    """Unary calls at a rate and streams side by side, over both gateways, until it is stopped."""

    def __init__(self, ports: list[int]) -> None:
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
        self._channel = grpc.aio.insecure_channel(
            f"ipv4:{addresses}", options=[*channel_options(), ("grpc.service_config", SERVICE_CONFIG)]
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
    return payload_pb2.Payload(generate=payload_pb2.Generate(prompt=marked("a"), max_tokens=tokens))


@pytest.mark.timeout(600)
async def test_f9_rolling_restarts_of_workers_and_gateways_fail_no_call_and_cut_no_stream(
    paced: Paced, tmp_path: Path, scale: Scale
) -> None:
    workers = paced.workers(2, slots=64, service_s=0.005, token_gap_s=0.05)
    models = write_yaml(tmp_path / "models.yaml", {"version": 1, "models": [entry(workers)]})
    gateways = [_gateway(paced, models, 0) for _ in range(2)]
    load = Load([gateway.grpc for gateway in gateways])
    running = asyncio.ensure_future(load.run(unary_per_s=scale.of(60, 200), streams=int(scale.of(15, 50))))
    await asyncio.to_thread(_wait_until_called, gateways)
    for _ in range(int(scale.of(1, 3))):
        for index, worker in enumerate(workers):
            workers[index] = await asyncio.to_thread(_restarted_worker, paced, worker)
            await asyncio.to_thread(_wait_until_all_are_in, gateways)
        for index, gateway in enumerate(gateways):
            gateways[index] = await asyncio.to_thread(_restarted_gateway, paced, models, gateway)
            await asyncio.to_thread(_wait_until_called, gateways)
    load.is_over = True
    await running
    assert load.unary > scale.of(100, 1000)
    assert load.streams > scale.of(30, 300)
    assert load.failed == []
    assert load.cut == 0


def _gateway(paced: Paced, models: Path, port: int, *, drain_delay_s: float = 0.5) -> MeshProcess:
    gateway = paced.group.start(
        "gateway",
        *("--models", str(models), "--grpc-port", str(port), "--http-port", "0"),
        *("--drain-delay-s", str(drain_delay_s)),
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


def _wait_until_all_are_in(gateways: Sequence[MeshProcess]) -> None:
    """Until each gateway has both workers, as a rolling restart waits before its next step."""
    for gateway in gateways:
        wait_until(lambda one=gateway: _metric(one, "mesh_gateway_endpoint_ready") == 2, "both are in")


def _wait_until_called(gateways: Sequence[MeshProcess]) -> None:
    """Until the callers use each gateway."""
    for gateway in gateways:
        wait_until(
            lambda one=gateway: _metric(one, "mesh_gateway_requests_total", method="Infer") >= 10,
            "callers are back",
        )


def _metric(process: MeshProcess, name: str, **labels: str) -> float:
    return metric_sum(http_text_of(f"{process.url}/metrics"), name, **labels)


async def test_f9_a_gateway_that_stops_serves_its_callers_until_they_have_left(
    paced: Paced, tmp_path: Path
) -> None:
    models = write_yaml(tmp_path / "models.yaml", {"version": 1, "models": [entry([paced.worker()])]})
    gateway = _gateway(paced, models, 0, drain_delay_s=0.2)
    outcomes: list[Outcome] = []
    async with MeshClient(gateway.grpc_target) as client:
        await client.infer("chat", SHORT)
        gateway.signal(signal.SIGTERM)
        leaves_at = time.monotonic() + 1.5
        while time.monotonic() < leaves_at:
            outcomes.append(await one_call(lambda: client.infer("chat", SHORT)))
    assert failures(outcomes) == []
    assert await asyncio.to_thread(gateway.popen.wait, 10) == 0


async def test_f10_a_stream_outlives_sigterm_and_nothing_new_is_taken(
    paced: Paced, tmp_path: Path, scale: Scale
) -> None:
    tokens, gap_s = int(scale.of(80, 400)), 0.05  # 4 s and 20 s
    worker = paced.worker(token_gap_s=gap_s)
    models = write_yaml(tmp_path / "models.yaml", {"version": 1, "models": [entry([worker])]})
    gateway = _gateway(paced, models, 0, drain_delay_s=0.1)
    async with MeshClient(gateway.grpc_target) as client, MeshClient(gateway.grpc_target) as late:
        stream = client.stream("chat", {"prompt": "a", "max_tokens": tokens}, timeout_s=60)
        received = list((await anext(stream)).output.generate.tokens)
        ends_at = time.monotonic() + (tokens - 1) * gap_s
        usual_s = _seconds_until_readiness_is(gateway, 200)
        gateway.signal(signal.SIGTERM)
        assert _seconds_until_readiness_is(gateway, 503) <= 0.1 + usual_s
        refused = None
        while refused is None:
            await asyncio.sleep(0.3)  # the stop waits for a caller who calls without a pause
            refused = (await one_call(lambda: late.infer("chat", SHORT, timeout_s=5))).error
        assert refused.code is grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() < ends_at
        async for piece in stream:
            received += piece.output.generate.tokens
    assert received == list(range(tokens))
    assert await asyncio.to_thread(gateway.popen.wait, 20) == 0


async def test_f10_a_second_sigterm_ends_the_gateway_at_once(paced: Paced, tmp_path: Path) -> None:
    worker = paced.worker(token_gap_s=0.05)
    models = write_yaml(tmp_path / "models.yaml", {"version": 1, "models": [entry([worker])]})
    gateway = _gateway(paced, models, 0)
    async with MeshClient(gateway.grpc_target) as client:
        stream: Any = client.stream("chat", {"prompt": "a", "max_tokens": 400}, timeout_s=60)
        await anext(stream)
        gateway.signal(signal.SIGTERM)
        await asyncio.to_thread(
            wait_until, lambda: http_status_of(f"{gateway.url}/readyz") == 503, "it drains"
        )
        gateway.signal(signal.SIGTERM)
        assert await asyncio.to_thread(gateway.popen.wait, 5) == FORCED_EXIT_CODE
        await stream.aclose()
    await asyncio.to_thread(wait_until, lambda: calls_at(worker) == 0, "nobody is worked for", 5.0)


def _seconds_until_readiness_is(gateway: MeshProcess, status: int) -> float:
    return wait_until(lambda: http_status_of(f"{gateway.url}/readyz") == status, f"readiness is {status}")
