"""What a model repository's clients see at the gateway: all models, and hosts that load and unload."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.oip import open_inference_pb2_grpc
from tests.integration.test_worker_host import running_host
from tests.support.callers import ADMIN, write_callers
from tests.support.gateways import RunningGateway, entry, running_gateway, running_worker, status_of
from workers.host.residency import Phase


def stub_of(running: RunningGateway) -> Any:
    """A client of GRPCInferenceService."""
    return open_inference_pb2_grpc.GRPCInferenceServiceStub(running.channel)


async def test_the_index_lists_every_model_and_whether_it_is_ready(tmp_path: Path) -> None:
    async with running_worker("chat") as worker:
        models = [entry("chat", worker), entry("gone", "127.0.0.1:1")]
        async with running_gateway(tmp_path, models) as running:
            await running.wait_until_ready("chat", worker)
            index = await stub_of(running).RepositoryIndex(oip.RepositoryIndexRequest())
            assert [(one.name, one.state) for one in index.models] == [
                ("chat", "READY"),
                ("gone", "UNAVAILABLE"),
            ]
            ready = await stub_of(running).RepositoryIndex(oip.RepositoryIndexRequest(ready=True))
            assert [one.name for one in ready.models] == ["chat"]


async def test_a_load_reaches_the_host_and_an_unload_too(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    admin = write_callers(tmp_path, {"name": "ops"}, scopes=ADMIN)
    async with running_host(tmp_path / "host", "iris") as host:
        target = f"127.0.0.1:{host.service.grpc_port}"
        async with running_gateway(tmp_path, [entry("iris", target)], **admin.settings) as running:
            await running.wait_until_ready("iris", Target(target))
            stub = stub_of(running)
            key = admin["ops"]
            await stub.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name="iris"), metadata=key)
            assert host.phase("iris") is Phase.READY
            unwanted = oip.RepositoryModelUnloadRequest(repository_name="iris")
            await stub.RepositoryModelUnload(unwanted, metadata=key)
            assert host.phase("iris") is Phase.COLD


class Target:
    """What a gateway waits for."""

    def __init__(self, target: str) -> None:
        self.target = target


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (oip.RepositoryModelLoadRequest(model_name="nobody"), grpc.StatusCode.NOT_FOUND),
        (oip.RepositoryModelLoadRequest(), grpc.StatusCode.INVALID_ARGUMENT),
        (oip.RepositoryModelLoadRequest(model_name="chat"), grpc.StatusCode.UNIMPLEMENTED),
    ],
)
async def test_what_cannot_be_loaded_is_refused(
    tmp_path: Path, request_: oip.RepositoryModelLoadRequest, code: grpc.StatusCode
) -> None:
    admin = write_callers(tmp_path, {"name": "ops"}, scopes=ADMIN)
    async with running_worker("chat") as worker:
        async with running_gateway(tmp_path, [entry("chat", worker)], **admin.settings) as running:
            await running.wait_until_ready("chat", worker)
            error = await status_of(stub_of(running).RepositoryModelLoad(request_, metadata=admin["ops"]))
    assert error.code() is code


async def test_a_caller_without_the_scope_may_list_and_not_load(tmp_path: Path) -> None:
    callers = write_callers(tmp_path, {"name": "blue"})
    async with running_worker("chat") as worker:
        told = {**callers.settings, "auth": "required"}
        async with running_gateway(tmp_path, [entry("chat", worker)], **told) as running:
            await running.wait_until_ready("chat", worker)
            key = callers["blue"]
            index = await stub_of(running).RepositoryIndex(oip.RepositoryIndexRequest(), metadata=key)
            assert [one.name for one in index.models] == ["chat"]
            wanted = oip.RepositoryModelLoadRequest(model_name="chat")
            error = await status_of(stub_of(running).RepositoryModelLoad(wanted, metadata=key))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
