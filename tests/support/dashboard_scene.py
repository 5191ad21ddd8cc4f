"""A small mesh under load with everything that a dashboard shows, and the faults that some panels are for.

It has tenants, limits, a canary, a shadow, a cache, a fallback, Redis and TLS. Owns the processes,
the callers and the faults. What the panels must show is the test's matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml

from inference_mesh.client import MeshClient
from inference_mesh.client_tls import ClientTls
from inference_mesh.config.keys_file import new_key
from observability.rules import rule_files
from scripts.check_alerts import PROMETHEUS
from tests.fakes.kubernetes_exporter import Container, kubernetes_exporter
from tests.fakes.redis_exporter import redis_exporter
from tests.support.alert_scene import IRIS_INPUT, SCALE
from tests.support.background_load import Ask, BackgroundLoad, again_and_again, background_load
from tests.support.certificates import Authority
from tests.support.processes import (
    IRIS,
    MINILM,
    TINY_CHAT,
    MeshProcess,
    ProcessGroup,
    http_text_of,
    metric_sum,
    process_group,
    wait_until,
)
from tests.support.prometheus import Prometheus, Target, prometheus
from tests.support.redis_server import RedisServer, redis_server

LIMIT_S = 30.0
ENDLESS = {"temperature": 0, "logit_bias": {"0": -100, "1": -100, "2": -100}}
CHAT = {"prompt": "Once upon a time there was a little girl", "max_tokens": 24, **ENDLESS}
STORY = {"max_tokens": 60, "temperature": 0}
TOO_SHORT_S = 0.03
"""Less than the worker's slots need: such a call is dropped in its queue, or expires at work."""
KEPT_CANARY = {
    "version": "v2",
    "steps": [{"weight": 50, "for_s": 86_400}],
    "guards": {"min_samples": 10**6, "error_ratio": 1, "p99_ratio": 1000, "first_token_ratio": 1000},
}
"""A canary that stays where it is."""


class DashboardScene:
    """The mesh. gateway: has keys, tenants, Redis and TLS."""

    def __init__(self, group: ProcessGroup, folder: Path, redis: RedisServer, load: BackgroundLoad) -> None:
        self._folder, self._redis, self._load = folder, redis, load
        self._authority = Authority(folder)
        self._keys: dict[str, str] = {}
        self._workers = _started_workers(group)
        self._models_file = folder / "models.yaml"
        self._write_models()
        certificate, key = self._authority.sign_server("gateway")
        flags = ["--redis-url", redis.url, *self._accounts(), "--usage-log", str(folder / "usage.jsonl")]
        flags += ["--tls-cert", str(certificate), "--tls-key", str(key)]
        self.gateway = group.gateway(self._models_file, *flags)
        self.gateway.wait_until_ready()
        self.bridge = group.bridge(self.gateway, "--gateway-tls-ca", str(self._authority.path))
        self.bridge.wait_until_ready()

    @property
    def containers(self) -> list[Container]:
        """Its processes as Kubernetes would have them; what has metrics of its own only."""
        real = [name for name in self._workers if not name.startswith("paced")]
        services = [Container("ai-gateway", f"{name}-0", name) for name in ("gateway", "rest-bridge")]
        return [*services, *(Container("ai-models", name, "worker") for name in real)]

    def targets(self, kubernetes: str, redis: str) -> list[Target]:
        """What Prometheus scrapes, with the jobs and labels of the cluster. Both are URLs of exporters."""
        node = "node-0"
        processes = {
            "gateway-0": ("gateway", self.gateway.url),
            "rest-bridge-0": ("rest-bridge", self.bridge.url),
            **{name: ("worker", worker.url) for name, worker in self._workers.items()},
        }
        mesh = [
            Target(processes[one.pod][1], processes[one.pod][0], one.pod, one.namespace, node)
            for one in self.containers
        ]
        return [
            *mesh,
            Target(redis, "redis", "redis-0", "ai-infra", node),
            Target(kubernetes, "kubernetes-apiservers", path="/apiserver"),
            Target(kubernetes, "kubernetes-kubelet", node=node, path="/kubelet"),
            Target(kubernetes, "kubernetes-cadvisor", node=node, path="/cadvisor"),
        ]

    def begin(self) -> None:
        """Let the callers call; among them some that are refused, come too late or wait."""
        for name, callers in (
            ("infer", self._call_the_models),
            ("rest", self._call_the_bridge),
            ("refused", self._call_in_vain),
        ):
            self._load.start(name, callers)

    def break_something(self) -> None:
        """Kill a replica amid its streams, break and mend the registry, take Redis away for a while."""
        doomed = self._workers["paced-doomed"]
        wait_until(lambda: '"running":0' not in http_text_of(f"{doomed.url}/stats"), "streams run", LIMIT_S)
        doomed.signal(signal.SIGKILL)
        self._models_file.write_text("models: [{name: 7")
        self._wait_for("mesh_gateway_registry_reloads_total", result="failure")
        self._write_models()
        self._wait_for("mesh_gateway_registry_reloads_total", result="success")
        self._redis.kill()
        self._wait_for("mesh_gateway_limit_degraded_total")
        self._redis.start()
        self._wait_for("mesh_gateway_ledger_up")
        self._load.check()

    def _wait_for(self, metric: str, **labels: str) -> None:
        def is_there() -> bool:
            self._load.check()
            return metric_sum(self.gateway.metrics_text(), metric, **labels) > 0

        wait_until(is_there, f"{metric} {labels}", LIMIT_S)

    def _write_models(self) -> None:
        at = {name: [worker.grpc_target] for name, worker in self._workers.items()}
        stories = [*at["paced-doomed"], *at["paced-mute"], *at["paced-steady"]]
        models: list[dict[str, Any]] = [
            {
                "name": "iris",
                "versions": [
                    {"version": "v1", "weight": 1, "endpoints": at["iris-v1"]},
                    {"version": "v2", "endpoints": at["iris-v2"]},
                ],
                "canary": KEPT_CANARY,
                "shadow": {"version": "v2", "share": 1},
            },
            {"name": "minilm", "endpoints": at["minilm"], "cache": {"size_mb": 1}},
            {"name": "tiny-chat", "endpoints": at["tiny-chat"], "queue": {"in_flight_per_replica": 16}},
            {
                "name": "story",
                "task": "generate",
                "endpoints": stories,
                "timeouts": {"first_token_s": 0.4, "between_tokens_s": 2},
            },
            {
                "name": "slow",
                "task": "generate",
                "endpoints": at["paced-slow"],
                "queue": {"in_flight_per_replica": 1, "size": 2, "max_wait_s": 5},
            },
            {"name": "gone", "task": "generate", "endpoints": ["127.0.0.1:1"], "fallback": ["tiny-chat"]},
        ]
        temporary = self._models_file.with_suffix(".new")
        temporary.write_text(yaml.safe_dump({"version": 1, "models": models}))
        temporary.replace(self._models_file)

    def _accounts(self) -> list[str]:
        """Flags for three tenants: two that are served, of which one has a tight limit, and nobody's key."""
        stored = []
        for tenant in ("acme", "globex"):
            self._keys[tenant], key = new_key(tenant=tenant, scopes=("infer",))
            stored.append(key)
        self._keys["nobody"], _ = new_key(tenant="nobody", scopes=("infer",))
        keys, tenants = self._folder / "keys.yaml", self._folder / "tenants.yaml"
        dumped = [key.model_dump(mode="json", exclude_defaults=True) for key in stored]
        keys.write_text(yaml.safe_dump({"keys": dumped}))
        generous = {"concurrency": 100, "tokens": {"amount": 10**9, "per": "day"}}
        limits = {"acme": generous, "globex": {"requests_per_second": 1, "burst": 1}}
        entries = [{"name": name, "limits": spec} for name, spec in limits.items()]
        tenants.write_text(yaml.safe_dump({"tenants": entries}))
        return ["--keys", str(keys), "--tenants", str(tenants)]

    def _client(self, tenant: str) -> MeshClient:
        tls = ClientTls(self._authority.path)
        return MeshClient(self.gateway.grpc_target, api_key=self._keys[tenant], tls=tls, timeout_s=20)

    async def _call_the_models(self) -> None:
        async with self._client("acme") as mesh, asyncio.TaskGroup() as group:
            asks: list[Ask] = [functools.partial(mesh.infer, "iris", IRIS_INPUT)]
            asks += [functools.partial(_read, mesh, "tiny-chat", CHAT)] * 3
            asks += [functools.partial(_read_another_story, mesh, itertools.count())] * 4
            asks += [functools.partial(mesh.infer, "slow", {"prompt": "a"})] * 5
            asks += [functools.partial(mesh.infer, "gone", {"prompt": "Hi", "max_tokens": 2})]
            for ask in asks:
                group.create_task(again_and_again(ask, pause_s=0.1))

    async def _call_the_bridge(self) -> None:
        headers = {"x-api-key": self._keys["acme"]}
        texts = itertools.cycle(f"text number {number}" for number in range(6))
        async with (
            httpx.AsyncClient(base_url=self.bridge.url, headers=headers, timeout=20, trust_env=False) as http,
            asyncio.TaskGroup() as group,
        ):

            async def embed() -> None:
                await http.post("/api/infer", json={"model": "minilm", "payload": {"text": next(texts)}})

            async def classify() -> None:
                await http.post("/v2/models/iris/infer", json=IRIS_INPUT)

            async def chat() -> None:
                await http.post("/api/infer", json={"model": "tiny-chat", "payload": CHAT, "stream": True})

            async def mistaken() -> None:
                await http.post("/api/infer", json={"model": "no-such-model", "payload": CHAT})

            for ask in (embed, classify, chat, mistaken):
                group.create_task(again_and_again(ask, pause_s=0.1))

    async def _call_in_vain(self) -> None:
        async with (
            self._client("acme") as hurried,
            self._client("globex") as limited,
            self._client("nobody") as unknown,
            asyncio.TaskGroup() as group,
        ):
            asks: list[Ask] = [functools.partial(hurried.infer, "tiny-chat", CHAT, timeout_s=TOO_SHORT_S)] * 6
            asks += [functools.partial(one.infer, "iris", IRIS_INPUT) for one in (limited, unknown)]
            for ask in asks:
                group.create_task(again_and_again(ask, pause_s=0.15))


@contextlib.contextmanager
def dashboard_scene(folder: Path) -> Iterator[tuple[DashboardScene, Prometheus]]:
    """A mesh under load and observation, after its faults; everything is ended with the block."""
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(redis_server(folder))
        group = stack.enter_context(process_group(folder))
        load = stack.enter_context(background_load())
        scene = DashboardScene(group, folder, redis, load)
        kubernetes = stack.enter_context(kubernetes_exporter(scene.containers))
        targets = scene.targets(kubernetes, stack.enter_context(redis_exporter(redis)))
        server = stack.enter_context(prometheus(folder, rule_files(SCALE), targets, _relabeling()))
        scene.begin()
        wait_until(lambda: len(server.query("up == 1")) == len(targets), "all are scraped", LIMIT_S)
        scene.break_something()
        yield scene, server


def _started_workers(group: ProcessGroup) -> dict[str, MeshProcess]:
    """Real workers of the embedded models, and paced ones, which have no metrics, for the faults."""
    paced = {
        "paced-doomed": ("story", "--token-gap-s", "0.05"),
        "paced-mute": ("story", "--mute"),
        "paced-steady": ("story", "--slots", "8"),
        "paced-slow": ("slow", "--slots", "1", "--service-s", "0.3"),
    }
    workers = {
        "iris-v1": group.worker(IRIS, "--version", "v1", name="iris", runtime="onnx"),
        "iris-v2": group.worker(IRIS, "--version", "v2", name="iris", runtime="onnx"),
        "minilm": group.worker(MINILM, name="minilm", runtime="onnx"),
        "tiny-chat": group.worker(
            TINY_CHAT, "--slots", "2", "--context", "256", name="tiny-chat", runtime="llama"
        ),
    }
    for name, (model, *flags) in paced.items():
        workers[name] = group.start("tests.fakes.paced_worker", "--name", model, *flags, name=name)
    for worker in workers.values():
        worker.wait_until_ready()
    return workers


def _relabeling() -> dict[str, list[dict[str, Any]]]:
    """What the real Prometheus keeps of what its jobs scrape."""
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    return {job["job_name"]: job.get("metric_relabel_configs", []) for job in jobs}


async def _read(mesh: MeshClient, model: str, payload: dict[str, Any]) -> None:
    pieces: AsyncIterator[object] = mesh.stream(model, payload)
    async for _ in pieces:
        pass


async def _read_another_story(mesh: MeshClient, numbers: Iterator[int]) -> None:
    """A new prompt each time: replicas are chosen by its beginning."""
    await _read(mesh, "story", {"prompt": f"story {next(numbers)}", **STORY})
