"""A small mesh with a real Prometheus whose rules have short windows, and a fault for each alert.

Owns the processes and the callers. What must fire is the test's matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import functools
import json
import signal
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import yaml

from inference_mesh.client import MeshClient
from inference_mesh.config.keys_file import new_key
from inference_mesh.metadata import API_KEY
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc
from observability.rules import TimeScale, rule_files
from tests.fakes.redis_exporter import redis_exporter
from tests.support.background_load import BackgroundLoad, again_and_again, background_load
from tests.support.certificates import Authority
from tests.support.processes import IRIS, TINY_CHAT, ProcessGroup, process_group
from tests.support.prometheus import Prometheus, Target, prometheus
from tests.support.redis_server import RedisServer, redis_server

SCALE = TimeScale(factor=1 / 400, shortest_s=0.5, shortest_window_s=3)
"""Five minutes are three seconds, so that they hold several scrapes; an hour is nine, a day 216."""

SLOTS, SERVICE_S = 8, 2.8
"""Of the slow model: each answer takes longer than the objective allows."""
CONTEXT, LONG_PROMPT = 256, "Once upon a time" + " a" * 246
"""A prompt that nearly fills the context of its slot."""
IRIS_INPUT = {
    "inputs": [{"name": "features", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]
}
BUDGET = 100
JSON = {"content-type": "application/json"}
ENDLESS = {"temperature": 0, "logit_bias": {"0": -100, "1": -100, "2": -100}}
"""No end of the text before max_tokens."""
LONG_LIFE = datetime.timedelta(days=365)


@dataclasses.dataclass(frozen=True)
class Callers:
    """Callers of a model. gap_s: between their beginnings. pause_s: of each after an answer."""

    target: str
    model: str
    payload: dict[str, Any]
    count: int = 1
    gap_s: float = 0.0
    pause_s: float = 0.0


class Scene:
    """The mesh, and what can be done to it.

    gateways: the first has Redis, the second has TLS and tenants. A second Redis serves nobody, and
    can be full.
    """

    def __init__(
        self, group: ProcessGroup, folder: Path, redis: tuple[RedisServer, RedisServer], load: BackgroundLoad
    ) -> None:
        self._folder = folder
        self._redis, self._full_redis = redis
        self.load = load
        self._authority = Authority(folder, life=LONG_LIFE)
        self.iris = group.worker(IRIS, name="iris", runtime="onnx")
        flags = ("--slots", "4", "--context", str(CONTEXT))
        self.chat = group.worker(TINY_CHAT, *flags, name="tiny-chat", runtime="llama")
        pace = ("--slots", str(SLOTS), "--service-s", str(SERVICE_S))
        self._slow = group.start("tests.fakes.paced_worker", "--name", "slow", *pace, name="slow")
        self._slow.wait_for_ports()
        for worker in (self.iris, self.chat):
            worker.wait_until_ready()
        self.gateways = [
            group.gateway(self._models("first.yaml"), "--redis-url", self._redis.url),
            group.gateway(self._models("second.yaml"), *self._accounts(), *self._certificate()),
        ]
        for gateway in self.gateways:
            gateway.wait_until_ready()
        self.bridge = group.bridge(self.gateways[0])
        self.bridge.wait_until_ready()

    def targets(self, exporters: Sequence[str]) -> list[Target]:
        """What Prometheus scrapes: all but the slow worker, which is a fake without metrics.

        exporters: URLs of those of Redis.
        """
        gateways = [
            Target(one.url, "gateway", f"gateway-{number}") for number, one in enumerate(self.gateways)
        ]
        workers = [Target(self.iris.url, "worker", "iris-0"), Target(self.chat.url, "worker", "tiny-chat-0")]
        redis = [Target(url, "redis", f"redis-{number}") for number, url in enumerate(exporters)]
        return [*gateways, *workers, *redis, Target(self.bridge.url, "rest-bridge", "rest-bridge-0")]

    def use_a_little(self) -> None:
        """Healthy callers of two models, and one stream by the bridge."""
        target = self.gateways[0].grpc_target
        short = {"prompt": "Hi", "max_tokens": 4}
        self._start("iris", Callers(target, "iris", IRIS_INPUT, pause_s=0.05))
        self._start("chat", Callers(target, "tiny-chat", short, pause_s=0.05))
        body = {"model": "tiny-chat", "payload": short, "stream": True}
        request = urllib.request.Request(f"{self.bridge.url}/api/infer", json.dumps(body).encode(), JSON)
        with urllib.request.urlopen(request, timeout=20) as answer:
            answer.read()

    def break_everything(self) -> None:
        """One fault for each alert but MeshGatewayDown."""
        self.iris.signal(signal.SIGKILL)
        self._redis.kill()
        self._full_redis.limit_memory(1)
        (self._folder / "second.yaml").write_text("models: [{name: 7")
        self._spend_the_budget()
        self._authority.life = datetime.timedelta(days=1)
        self._authority.sign_server("gateway")
        first, gap_s = self.gateways[0].grpc_target, SERVICE_S / SLOTS
        self._start("slow", Callers(first, "slow", {"prompt": "a"}, count=3 * SLOTS, gap_s=gap_s))
        full = {"prompt": LONG_PROMPT, "max_tokens": 12, **ENDLESS}
        self._start("full", Callers(self.chat.grpc_target, "tiny-chat", full, count=16))

    def kill_the_gateways(self) -> None:
        """The fault that hides all others."""
        for gateway in self.gateways:
            gateway.signal(signal.SIGKILL)

    def _start(self, name: str, callers: Callers) -> None:
        self.load.start(name, functools.partial(_call_side_by_side, callers))

    def _models(self, name: str) -> Path:
        workers = {"iris": self.iris, "tiny-chat": self.chat, "slow": self._slow}
        queue = {"in_flight_per_replica": SLOTS, "size": 100, "max_wait_s": 60}
        entries = [
            {
                "name": model,
                "endpoints": [worker.grpc_target],
                **({"queue": queue} if model == "slow" else {}),
            }
            for model, worker in workers.items()
        ]
        path = self._folder / name
        path.write_text(yaml.safe_dump({"version": 1, "models": entries}))
        return path

    def _accounts(self) -> tuple[str, ...]:
        """Flags of a gateway with one tenant, whose records no disk takes."""
        self._key, stored = new_key(tenant="acme", scopes=("infer",))
        keys, tenants = self._folder / "keys.yaml", self._folder / "tenants.yaml"
        keys.write_text(yaml.safe_dump({"keys": [stored.model_dump(mode="json", exclude_defaults=True)]}))
        limits = {"tokens": {"amount": BUDGET, "per": "day"}}
        tenants.write_text(yaml.safe_dump({"tenants": [{"name": "acme", "limits": limits}]}))
        return ("--keys", str(keys), "--tenants", str(tenants), "--usage-log", "/dev/full")

    def _certificate(self) -> tuple[str, ...]:
        certificate, key = self._authority.sign_server("gateway")
        return ("--tls-cert", str(certificate), "--tls-key", str(key))

    def _spend_the_budget(self) -> None:
        """One call of the tenant, which leaves less than a tenth of its tokens, and a usage record."""
        credentials = grpc.ssl_channel_credentials(self._authority.pem)
        message = inference_pb2.InferRequest(model="slow")
        message.payload.generate.prompt = "a"
        message.payload.generate.max_tokens = BUDGET - 6
        with grpc.secure_channel(self.gateways[1].grpc_target, credentials) as channel:
            inference_pb2_grpc.InferenceServiceStub(channel).Infer(
                message, metadata=((API_KEY, self._key),), timeout=30
            )


@contextlib.contextmanager
def alert_scene(folder: Path) -> Iterator[tuple[Scene, Prometheus]]:
    """A healthy mesh under observation; everything is ended with the block."""
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(redis_server(folder)) for _ in range(2))
        group = stack.enter_context(process_group(folder))
        load = stack.enter_context(background_load())
        scene = Scene(group, folder, (first, second), load)
        exporters = [stack.enter_context(redis_exporter(one)) for one in (first, second)]
        rules = rule_files(SCALE)
        yield scene, stack.enter_context(prometheus(folder, rules, scene.targets(exporters)))


async def _call_side_by_side(callers: Callers) -> None:
    async with MeshClient(callers.target) as client, asyncio.TaskGroup() as group:
        for _ in range(callers.count):
            ask = functools.partial(client.infer, callers.model, callers.payload, timeout_s=30)
            group.create_task(again_and_again(ask, callers.pause_s))
            await asyncio.sleep(callers.gap_s)
