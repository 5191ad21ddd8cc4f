"""The mesh of the matrix, in this process: workers, gateway and bridge, and callers with their limits."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import yaml

from inference_mesh.config.keys_file import new_key
from inference_mesh.settings import load_settings
from rest_bridge.server import BridgeService
from rest_bridge.settings import BridgeSettings
from tests.integration.parity.engine import ThreeWords
from tests.integration.parity.faces import Doors
from tests.support.callers import write_callers
from tests.support.gateways import RunningGateway, running_gateway
from tests.support.workers import served_worker

NOBODY = "127.0.0.1:9"
"""Where nothing listens."""
CANARY_TENANTS = ("acme", "initech", "hooli", "umbrella")
"""Callers of whom some get one version of a canary, and some the other."""
TENANTS: tuple[dict[str, Any], ...] = (
    {"name": "good", "models": ["chat", "canary", "busy", "down"]},
    *({"name": name, "models": ["canary"]} for name in CANARY_TENANTS),
    {"name": "bulk", "models": ["busy"], "priority": "bulk"},
    {"name": "fast", "models": ["chat"], "limits": {"requests_per_second": 0.001, "burst": 1}},
    {"name": "poor", "models": ["chat"], "limits": {"tokens": {"amount": 100, "per": "day"}}},
)
UNCOMPARED = ("_created", "_seconds", "_seconds_total")
"""Ends of names of metrics that measure time."""

OF_NOBODY = {"model": "unknown", "code": "OK"}
"""Calls that are not of this test: the bridge asks for the gateway's health."""


@dataclasses.dataclass
class ParityMesh:
    """What the cells of the matrix need. keys: by tenant; "unscoped" has one that may not infer."""

    running: RunningGateway
    doors: Doors
    engines: dict[str, ThreeWords]
    keys: dict[str, str]

    def counts(self) -> Counter[tuple[str, ...]]:
        """Every counter and level of the gateway that calls move, without the name of the method."""
        found: Counter[tuple[str, ...]] = Counter()
        for family in self.running.gateway.metrics.registry.collect():
            if family.type not in ("counter", "gauge") or not family.name.startswith("mesh_gateway_"):
                continue
            for sample in family.samples:
                if not sample.name.endswith(UNCOMPARED) and not OF_NOBODY.items() <= sample.labels.items():
                    labels = {name: value for name, value in sample.labels.items() if name != "method"}
                    found[(sample.name, *sorted(f"{name}={value}" for name, value in labels.items()))] += (
                        round(sample.value * 1000)
                    )
        return found

    async def until_counted(self, before: Counter[tuple[str, ...]]) -> None:
        """Wait a moment for the end of a call to be counted; the caller may hear of it before."""
        for _ in range(10):
            if self.counts() != before:
                break
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.01)

    async def until_quiet(self) -> None:
        """Wait until no call runs, neither at the gateway nor in an engine."""
        async with asyncio.timeout(10):
            while any(self.running.metric("mesh_gateway_in_flight", model=name) for name in self.engines):
                await asyncio.sleep(0.005)
            while any(engine.running for engine in self.engines.values()):
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def parity_mesh(folder: Path) -> AsyncIterator[ParityMesh]:
    """All of it, for a block."""
    callers = write_callers(folder, *TENANTS)
    unscoped = _add_unscoped(callers.settings["keys"])
    async with contextlib.AsyncExitStack() as stack:
        engines = {"chat": ThreeWords("chat"), "busy": ThreeWords("busy")}
        engines |= {f"canary-{version}": ThreeWords("canary", version) for version in "12"}
        targets = {
            name: (await stack.enter_async_context(served_worker(engine))).target
            for name, engine in engines.items()
        }
        gateway = await stack.enter_async_context(
            running_gateway(folder, _models(targets), **callers.settings)
        )
        bridge = BridgeService(
            load_settings(
                BridgeSettings, {"gateway": f"127.0.0.1:{gateway.gateway.grpc_port}", "http_port": 0}
            )
        )
        await bridge.start()
        stack.push_async_callback(bridge.stop, 0.0)
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{bridge.port}", timeout=20, trust_env=False)
        )
        keys = {name: str(dict(pairs)["x-api-key"]) for name, pairs in callers.credentials.items()}
        keys["unscoped"] = unscoped
        yield ParityMesh(gateway, Doors(gateway.channel, http), engines, keys)


def _add_unscoped(keys_file: Path) -> str:
    """A key of "good" that may look after the gateway, and not infer."""
    plain, key = new_key(tenant="good", scopes=("admin",))
    document = yaml.safe_load(keys_file.read_text())
    document["keys"].append(key.model_dump(mode="json", exclude_none=True, exclude={"burst"}))
    keys_file.write_text(yaml.safe_dump(document))
    return plain


def _models(targets: dict[str, str]) -> list[dict[str, Any]]:
    versions = [{"version": one, "endpoints": [targets[f"canary-{one}"]], "weight": 1} for one in "12"]
    return [
        {"name": "chat", "task": "generate", "endpoints": [targets["chat"]]},
        {"name": "secret", "task": "generate", "endpoints": [targets["chat"]]},
        {"name": "down", "task": "generate", "endpoints": [NOBODY]},
        {
            "name": "busy",
            "task": "generate",
            "endpoints": [targets["busy"]],
            "queue": {"in_flight_per_replica": 1, "size": 1},
        },
        {"name": "canary", "task": "generate", "versions": versions, "canary": _CANARY},
    ]


_CANARY = {"version": "2", "steps": [{"weight": 50, "for_s": 3600}], "sticky": "tenant"}
