"""Triton's extensions over REST: a bridge before a real gateway, and a host that loads and unloads."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference_mesh.settings import load_settings
from rest_bridge.server import BridgeService
from rest_bridge.settings import BridgeSettings
from tests.integration.test_worker_host import FLOWER, RunningHost, running_host
from tests.support.callers import ADMIN, Callers, write_callers
from tests.support.gateways import entry, running_gateway, running_worker
from workers.host.residency import Phase

MODEL = "/v2/repository/models/iris"


@dataclasses.dataclass(frozen=True)
class Scene:
    """A client of the bridge that may do everything, the host behind it, and another tenant's key."""

    http: httpx.AsyncClient
    host: RunningHost
    callers: Callers

    async def get(self, path: str) -> Any:
        """The JSON of a good answer."""
        found = await self.http.get(path)
        assert found.status_code == 200, found.text
        return found.json()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    (tmp_path / "host").mkdir()
    callers = write_callers(tmp_path, {"name": "ops"}, {"name": "blue", "models": ["chat"]}, scopes=ADMIN)
    async with running_host(tmp_path / "host", "iris") as host, running_worker("chat") as worker:
        target = f"127.0.0.1:{host.service.grpc_port}"
        models = [entry("iris", target, version="3"), entry("chat", worker)]
        async with running_gateway(tmp_path, models, auth="required", **callers.settings) as gateway:
            await gateway.wait_until_ready("chat", worker)
            async with _client(f"127.0.0.1:{gateway.gateway.grpc_port}", callers) as http:
                yield Scene(http, host, callers)


@contextlib.asynccontextmanager
async def _client(gateway: str, callers: Callers) -> AsyncIterator[httpx.AsyncClient]:
    service = BridgeService(load_settings(BridgeSettings, {"gateway": gateway, "http_port": 0}))
    await service.start()
    base = f"http://127.0.0.1:{service.port}"
    try:
        headers = dict(callers["ops"])
        async with httpx.AsyncClient(base_url=base, timeout=30, trust_env=False, headers=headers) as client:
            yield client
    finally:
        await service.stop(0.0)


async def test_the_server_says_what_it_speaks_by_rest(scene: Scene) -> None:
    found = await scene.get("/v2")
    assert set(found) == {"name", "version", "extensions"}
    assert found["extensions"] == [
        "binary_tensor_data",
        "generate",
        "model_configuration",
        "model_repository",
        "parameters",
        "statistics",
    ]


async def test_a_configuration_is_written_as_triton_writes_it(scene: Scene) -> None:
    found = await scene.get("/v2/models/iris/config")
    assert found["input"] == [{"name": "features", "data_type": "TYPE_FP32", "dims": [-1, 4]}]
    assert {one["name"]: one["data_type"] for one in found["output"]} == {
        "label": "TYPE_INT64",
        "probabilities": "TYPE_FP32",
    }
    assert (found["name"], found["platform"], found["backend"]) == (
        "iris",
        "onnxruntime_onnx",
        "onnxruntime",
    )
    assert (found["max_batch_size"], found["model_transaction_policy"]) == (0, {"decoupled": False})
    assert found["version_policy"] == {"specific": {"versions": [3]}}
    assert await scene.get("/v2/models/iris/versions/3/config") == found


async def test_statistics_are_numbers_of_every_model_or_of_one(scene: Scene) -> None:
    assert (await scene.http.post("/v2/models/iris/infer", json=FLOWER)).status_code == 200
    every = (await scene.get("/v2/models/stats"))["model_stats"]
    assert [(one["name"], one["version"], one["inference_count"]) for one in every] == [
        ("chat", "", 0),
        ("iris", "3", 1),
    ]
    assert (await scene.get("/v2/models/iris/stats"))["model_stats"] == [every[1]]
    assert (await scene.get("/v2/models/iris/versions/3/stats"))["model_stats"] == [every[1]]
    times = every[1]["inference_stats"]
    assert set(times) == {
        "success",
        "fail",
        "queue",
        "compute_input",
        "compute_infer",
        "compute_output",
        "cache_hit",
        "cache_miss",
    }
    assert times["success"]["count"] == 1
    assert type(times["success"]["ns"]) is int
    assert times["fail"] == {"count": 0, "ns": 0}


async def test_a_model_is_loaded_and_unloaded_by_an_empty_answer(scene: Scene) -> None:
    loaded = await scene.http.post(f"{MODEL}/load")
    assert (loaded.status_code, loaded.content) == (200, b"")
    assert scene.host.phase("iris") is Phase.READY
    again = await scene.http.post(f"{MODEL}/load", json={"parameters": {}})
    assert again.status_code == 200
    # As Triton's clients write it, without a content type.
    unloaded = await scene.http.post(f"{MODEL}/unload", content=b'{"parameters":{"unload_dependents":false}}')
    assert (unloaded.status_code, unloaded.content) == (200, b"")
    assert scene.host.phase("iris") is Phase.COLD


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready":false}', b'{"ready":null,"else":1}'])
async def test_the_index_is_a_list_of_every_model(scene: Scene, body: bytes) -> None:
    found = await scene.http.post("/v2/repository/index", content=body)
    assert found.json() == [
        {"name": "chat", "version": "", "state": "READY", "reason": ""},
        {"name": "iris", "version": "3", "state": "READY", "reason": ""},
    ]


async def test_a_caller_is_shown_its_own_models_and_no_others(scene: Scene) -> None:
    key = dict(scene.callers["blue"])
    index = await scene.http.post("/v2/repository/index", headers=key)
    assert [one["name"] for one in index.json()] == ["chat"]
    every = await scene.http.get("/v2/models/stats", headers=key)
    assert [one["name"] for one in every.json()["model_stats"]] == ["chat"]
    for path in ("config", "stats", "versions/3/config", "versions/3/stats"):
        hidden = await scene.http.get(f"/v2/models/iris/{path}", headers=key)
        assert (hidden.status_code, hidden.json()) == (404, {"error": "there is no model 'iris'"}), path


@pytest.mark.parametrize(
    ("path", "body", "status", "named"),
    [
        ("/v2/repository/index", b'{"ready": 1}', 400, "ready"),
        ("/v2/repository/index", b"[]", 400, "object"),
        ("/v2/repository/index", b"{", 400, "JSON"),
        (f"{MODEL}/load", b"null", 400, "object"),
        (f"{MODEL}/load", b'{"parameters": 1}', 400, "parameters"),
        (f"{MODEL}/load", b'{"parameters": {"config": {}}}', 400, "parameters.config"),
        (f"{MODEL}/load", b'{"parameters": {"config": 1.5}}', 400, "parameters.config"),
        (f"{MODEL}/load", b'{"parameters": {"config": 9223372036854775808}}', 400, "parameters.config"),
        (f"{MODEL}/load", b'{"parameters": {"config": "{}"}}', 400, "config"),
        (f"{MODEL}/unload", b'{"parameters": {"now": true}}', 400, "now"),
        ("/v2/repository/models/nobody/load", b"", 404, "nobody"),
        ("/v2/repository/models/chat/unload", b"", 501, "chat"),
    ],
)
async def test_what_is_wrong_is_named_in_the_form_of_this_protocol(
    scene: Scene, path: str, body: bytes, status: int, named: str
) -> None:
    refused = await scene.http.post(path, content=body)
    assert refused.status_code == status, refused.text
    assert list(refused.json()) == ["error"]
    assert named in refused.json()["error"]
    assert scene.host.phase("iris") is Phase.COLD
