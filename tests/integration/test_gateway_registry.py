"""models.yaml while the gateway runs: good changes go live, bad ones change nothing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.gateways import (
    RunningGateway,
    entry,
    facts,
    prompt,
    running_gateway,
    running_worker,
    status_of,
    write_models,
)

GOOD = "mesh_gateway_registry_last_reload_successful"


class Load:
    """Calls a model all the time and keeps what came."""

    def __init__(self, mesh: RunningGateway, model: str) -> None:
        self._mesh = mesh
        self._model = model
        self.workers: list[str] = []
        self.failures: list[str] = []

    async def run(self) -> None:
        while True:
            try:
                self.workers.append(
                    facts(await self._mesh.stub.Infer(prompt(self._model), timeout=5))["worker"]
                )
            except grpc.aio.AioRpcError as error:
                self.failures.append(f"{error.code().name} {error.details()}")
            await asyncio.sleep(0.005)


async def metric_is(mesh: RunningGateway, wanted: float) -> None:
    async with asyncio.timeout(3):
        while mesh.metric(GOOD) != wanted:
            await asyncio.sleep(0.02)


async def slow_answer(mesh: RunningGateway) -> Any:
    return await mesh.stub.Infer(prompt("one", "delay=3"))


BROKEN = {
    "not YAML": "[: {",
    "a wrong schema": "- name: one\n  servise: x\n",
    "a name twice": "- {name: one, service: 'a:1'}\n- {name: one, service: 'b:1'}\n",
    "empty": "",
    "too large": "#" + "x" * 10_000_000,
    "not UTF-8": "\udcff\udcfe",
    "a key that is a list": "- [a, b]: c\n",
    "a tag without its value": "- !!int ''\n",
    "half written": "- name: one\n  endpoi",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_registry_changes_nothing_and_is_told(tmp_path: Path, text: str) -> None:
    async with running_worker("one") as one, running_gateway(tmp_path, [entry("one", one)]) as mesh:
        assert mesh.metric(GOOD) == 1
        load = Load(mesh, "one")
        task = asyncio.ensure_future(load.run())
        mesh.models_file.write_text(text, errors="surrogateescape")
        await metric_is(mesh, 0)
        readiness = mesh.gateway.readiness()
        assert readiness.is_ready
        assert readiness.detail["registry"] != "ok"
        write_models(mesh.models_file, [entry("one", one, aliases=["uno"])])
        await metric_is(mesh, 1)
        task.cancel()
    assert load.failures == []
    assert len(load.workers) > 20


async def test_a_move_to_other_replicas_is_live_in_two_seconds_and_loses_no_call(tmp_path: Path) -> None:
    async with running_worker("one", label="old") as old, running_worker("one", label="new") as new:
        async with running_gateway(tmp_path, [entry("one", old)]) as mesh:
            load = Load(mesh, "one")
            task = asyncio.ensure_future(load.run())
            slow = asyncio.ensure_future(slow_answer(mesh))
            async with asyncio.timeout(5):
                while old.running == 0:
                    await asyncio.sleep(0.01)
            write_models(mesh.models_file, [entry("one", new)])
            started = time.monotonic()
            async with asyncio.timeout(5):
                while "new" not in load.workers:
                    await asyncio.sleep(0.01)
            assert time.monotonic() - started < 2
            assert facts(await slow)["worker"] == "old"
            task.cancel()
    assert load.failures == []
    assert load.workers == sorted(load.workers, reverse=True)


async def test_models_come_and_go_with_the_file(tmp_path: Path) -> None:
    async with running_worker("one") as one, running_worker("two") as two:
        async with running_gateway(tmp_path, [entry("one", one)]) as mesh:
            assert (await status_of(mesh.stub.Infer(prompt("two")))).code() is grpc.StatusCode.NOT_FOUND
            write_models(mesh.models_file, [entry("two", two)])
            async with asyncio.timeout(2):
                while (await mesh.stub.Infer(prompt("two")).code()) is not grpc.StatusCode.OK:
                    await asyncio.sleep(0.02)
            assert (await status_of(mesh.stub.Infer(prompt("one")))).code() is grpc.StatusCode.NOT_FOUND
            assert mesh.metric("mesh_gateway_endpoint_ready", model="one", endpoint=one.target) == 0


async def test_a_gateway_without_a_good_registry_starts_and_says_why_it_is_not_ready(tmp_path: Path) -> None:
    async with running_worker("one") as one, running_gateway(tmp_path, []) as mesh:
        readiness = mesh.gateway.readiness()
        assert not readiness.is_ready
        assert "at least one" in readiness.detail["registry"]
        write_models(mesh.models_file, [entry("one", one)])
        async with asyncio.timeout(3):
            while not mesh.gateway.readiness().is_ready:
                await asyncio.sleep(0.02)
        await mesh.stub.Infer(prompt("one"))


async def test_a_service_name_is_looked_up(tmp_path: Path) -> None:
    async with running_worker("one") as one:
        models = [{"name": "one", "service": f"localhost:{one.port}"}]
        async with running_gateway(tmp_path, models) as mesh:
            assert facts(await mesh.stub.Infer(prompt("one"), timeout=5))["worker"] == "one"
