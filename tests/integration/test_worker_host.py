"""A worker host with the embedded models: what is asked for is loaded once, the rest leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from inference_mesh.client import MeshClient
from inference_mesh.errors import (
    DeadlineExceededError,
    ModelNotFoundError,
    ModelNotReadyError,
    OverloadedError,
    UnavailableError,
)
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.oip import open_inference_pb2_grpc
from tests.support.processes import IRIS, MINILM, TINY_CHAT
from workers.host.host_file import read_host_file
from workers.host.residency import Phase
from workers.host.server import HostService
from workers.host.settings import HostSettings

FLOWER = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}
WHO = {"messages": [{"role": "user", "content": "Who are you?"}], "temperature": 0}
LIMIT_S = 60.0

MODELS: dict[str, dict[str, Any]] = {
    "tiny-chat": {"model": str(TINY_CHAT), "runtime": "llama", "task": "generate"},
    "iris": {"model": str(IRIS), "runtime": "onnx", "task": "tensors"},
    "minilm": {"model": str(MINILM), "runtime": "onnx", "task": "embed"},
}


class RunningHost:
    """A host in this process, with workers of its own, and a client."""

    def __init__(self, service: HostService, client: MeshClient) -> None:
        self.service = service
        self.client = client

    def phase(self, name: str) -> Phase:
        """Where a model is."""
        return self.service.keeper.find(name).phase

    def pid(self, name: str) -> int:
        """The process of a model that is loaded."""
        process = self.service.keeper.find(name).process
        assert process is not None
        return process.pid

    async def until(self, name: str, phase: Phase) -> None:
        """Wait until a model is in this phase."""
        hosted = self.service.keeper.find(name)
        async with asyncio.timeout(LIMIT_S):
            while hosted.phase is not phase:
                await hosted.changed.wait()

    def loads(self, name: str) -> int:
        """How often a model was loaded."""
        return self.service.keeper.find(name).loads


@contextlib.asynccontextmanager
async def running_host(
    folder: Path, *names: str, entries: dict[str, dict[str, Any]] | None = None, **settings: Any
) -> AsyncIterator[RunningHost]:
    """A host of the embedded models of these names. entries: keys that are added to a model's entry."""
    models = [{"name": name, **MODELS.get(name, {}), **(entries or {}).get(name, {})} for name in names]
    path = folder / "host.yaml"
    path.write_text(yaml.safe_dump({"models": models}))
    told = HostSettings(models=path, grpc_port=0, http_port=0, grace_s=5.0, **settings)
    service = HostService(told, read_host_file(path))
    await service.start()
    async with MeshClient(f"127.0.0.1:{service.grpc_port}") as client:
        try:
            yield RunningHost(service, client)
        finally:
            await service.stop(0.0)


async def test_many_who_ask_for_a_cold_model_load_it_once_and_all_are_answered(tmp_path: Path) -> None:
    async with running_host(tmp_path, "iris") as host:
        assert host.phase("iris") is Phase.COLD
        answers = await asyncio.gather(*(host.client.infer("iris", FLOWER) for _ in range(50)))
        assert {answer.model for answer in answers} == {"iris"}
        assert host.loads("iris") == 1


async def test_the_longest_unused_one_leaves_for_the_one_that_is_asked_for(tmp_path: Path) -> None:
    async with running_host(tmp_path, "iris", "minilm", "tiny-chat", max_loaded=2) as host:
        await host.client.infer("iris", FLOWER)
        await host.client.infer("minilm", {"text": "a"})
        await host.client.infer("iris", FLOWER)
        await host.client.infer("tiny-chat", WHO)
        phases = {name: host.phase(name) for name in MODELS}
        assert phases == {"iris": Phase.READY, "minilm": Phase.COLD, "tiny-chat": Phase.READY}


async def test_a_pinned_one_is_loaded_at_once_and_stays(tmp_path: Path) -> None:
    pinned = {"iris": {"pinned": True}}
    async with running_host(tmp_path, "iris", "minilm", "tiny-chat", entries=pinned, max_loaded=2) as host:
        await host.until("iris", Phase.READY)
        await host.client.infer("minilm", {"text": "a"})
        await host.client.infer("tiny-chat", WHO)
        assert (host.phase("iris"), host.phase("minilm")) == (Phase.READY, Phase.COLD)


async def test_a_model_that_serves_is_not_given_up_for_another(tmp_path: Path) -> None:
    async with running_host(tmp_path, "tiny-chat", "iris", max_loaded=1) as host:
        long = {"prompt": "Once upon", "max_tokens": 400, "temperature": 0}
        pieces = host.client.stream("tiny-chat", long)
        await anext(aiter(pieces))
        other = asyncio.ensure_future(host.client.infer("iris", FLOWER))
        rest = [piece async for piece in pieces]
        assert rest[-1].HasField("usage"), "the stream came to its end"
        assert (await other).model == "iris"
        assert host.phase("tiny-chat") is Phase.COLD


async def test_a_stream_passes_through_with_its_usage_and_a_cancel_reaches_the_worker(tmp_path: Path) -> None:
    async with running_host(tmp_path, "tiny-chat") as host:
        pieces = [piece async for piece in host.client.stream("tiny-chat", WHO)]
        whole = await host.client.infer("tiny-chat", WHO)
        assert "".join(piece.output.generate.text for piece in pieces) == whole.output.generate.text
        assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens
        stream = host.client.stream("tiny-chat", {"prompt": "Once", "max_tokens": 1500, "temperature": 1})
        await anext(aiter(stream))
        hosted = host.service.keeper.find("tiny-chat")
        assert hosted.in_flight == 1
        await stream.aclose()
        async with asyncio.timeout(LIMIT_S):
            await hosted.is_quiet.wait()


async def test_a_worker_that_is_killed_harms_no_other_and_is_back_when_it_is_asked_for(
    tmp_path: Path,
) -> None:
    async with running_host(tmp_path, "iris", "minilm") as host:
        await host.client.infer("iris", FLOWER)
        await host.client.infer("minilm", {"text": "a"})
        failed = 0

        async def ask_minilm() -> None:
            for _ in range(50):
                await host.client.infer("minilm", {"text": "a"})

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ask_minilm())
            os.kill(host.pid("iris"), signal.SIGKILL)
            for _ in range(20):
                try:
                    await host.client.infer("iris", FLOWER)
                except UnavailableError:
                    failed += 1
        assert failed < 20
        assert (await host.client.infer("iris", FLOWER)).model == "iris"
        assert host.loads("iris") == 2
        assert host.loads("minilm") == 1


async def test_a_file_that_does_not_load_is_told_with_its_reason_and_not_tried_again_at_once(
    tmp_path: Path,
) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"not a model")
    bad = {"bad": {"model": str(tmp_path / "bad.gguf"), "runtime": "llama", "task": "generate"}}
    async with running_host(tmp_path, "bad", "iris", entries=bad) as host:
        for _ in range(2):
            with pytest.raises(ModelNotReadyError):
                await host.client.infer("bad", {"prompt": "x"})
        assert (await host.client.infer("iris", FLOWER)).model == "iris"
        models = {model.name: model.ready for model in await host.client.models()}
        assert models == {"bad": False, "iris": True}


async def test_a_model_that_can_never_fit_is_refused_with_both_numbers(tmp_path: Path) -> None:
    huge = {"iris": {"memory_bytes": 1 << 40}}
    async with running_host(tmp_path, "iris", entries=huge, memory_bytes=1 << 30) as host:
        with pytest.raises(ModelNotReadyError) as caught:
            await host.client.infer("iris", FLOWER)
        assert str(1 << 40) in caught.value.message
        assert str(1 << 30) in caught.value.message


async def test_more_who_wait_than_may_are_refused_with_a_hint_and_the_others_are_answered(
    tmp_path: Path,
) -> None:
    async with running_host(tmp_path, "iris", max_waiting=2) as host:
        calls = [asyncio.ensure_future(host.client.infer("iris", FLOWER)) for _ in range(6)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        refused = [one for one in outcomes if isinstance(one, OverloadedError)]
        assert len(refused) == 4
        assert all(one.retry_after_s is not None and one.retry_after_s > 0 for one in refused)
        assert host.loads("iris") == 1


async def test_a_deadline_that_passes_while_the_model_loads_ends_the_wait(tmp_path: Path) -> None:
    async with running_host(tmp_path, "iris") as host:
        message = {"inputs": FLOWER["inputs"]}
        await host.client.model("iris")
        with pytest.raises(DeadlineExceededError):
            await host.client.infer("iris", message, timeout_s=0.05)


async def test_the_repository_loads_unloads_and_lists(tmp_path: Path) -> None:
    async with running_host(tmp_path, "iris") as host:
        target = f"127.0.0.1:{host.service.grpc_port}"
        async with grpc.aio.insecure_channel(target) as channel:
            stub: Any = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
            await stub.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name="iris"))
            index = await stub.RepositoryIndex(oip.RepositoryIndexRequest(ready=True))
            assert [(one.name, one.state) for one in index.models] == [("iris", "READY")]
            # KServe's clients have the name in field 1.
            await stub.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(repository_name="iris"))
            index = await stub.RepositoryIndex(oip.RepositoryIndexRequest())
            assert [one.state for one in index.models] == ["UNAVAILABLE"]
        with pytest.raises(ModelNotFoundError):
            await host.client.infer("nobody", {"prompt": "x"})


async def test_the_repository_takes_what_tritons_clients_always_send_and_names_the_rest(
    tmp_path: Path,
) -> None:
    async with running_host(tmp_path, "iris") as host:
        target = f"127.0.0.1:{host.service.grpc_port}"
        async with grpc.aio.insecure_channel(target) as channel:
            stub: Any = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
            await stub.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name="iris"))
            unload = oip.RepositoryModelUnloadRequest(model_name="iris")
            unload.parameters["unload_dependents"].bool_param = True
            await stub.RepositoryModelUnload(unload)
            assert host.phase("iris") is Phase.COLD
            load = oip.RepositoryModelLoadRequest(model_name="iris")
            load.parameters["config"].string_param = "{}"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.RepositoryModelLoad(load)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "'config'" in (caught.value.details() or "")
            server = await stub.ServerMetadata(oip.ServerMetadataRequest())
            assert list(server.extensions) == ["model_repository", "parameters"]


async def test_an_idle_model_leaves_by_itself(tmp_path: Path) -> None:
    async with running_host(tmp_path, "iris", idle_unload_s=0.5) as host:
        await host.client.infer("iris", FLOWER)
        await host.until("iris", Phase.COLD)
