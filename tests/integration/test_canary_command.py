"""`mesh canary` against a real AdminService."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner, Result

from gateway.canary.canaries import Canaries, local_canaries
from gateway.canary.metrics import CanaryMetrics
from gateway.front.canary_answers import canary_message
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.errors import MeshError, ModelNotFoundError, UnauthenticatedError, UnsupportedError
from inference_mesh.metadata import API_KEY, value_of
from inference_mesh.status_interceptor import StatusInterceptor
from inference_mesh.v1 import admin_pb2, admin_pb2_grpc
from mesh_cli.commands import canary
from mesh_cli.errors import FailedError, NotRunningError, UsageError

KEY = "mesh_someone_secret"
ENTRY = ModelEntry.model_validate(
    {
        "name": "chat",
        "versions": [
            {"version": "1", "weight": 1, "endpoints": ["127.0.0.1:1"]},
            {"version": "2", "endpoints": ["127.0.0.1:2"]},
        ],
        "canary": {"version": "2"},
    }
)

Context = grpc.aio.ServicerContext[Any, Any]


class Admin(admin_pb2_grpc.AdminServiceServicer):
    """AdminService over canaries, for whoever has the key."""

    def __init__(self, canaries: Canaries) -> None:
        self._canaries = canaries

    async def ListCanaries(
        self, request: admin_pb2.ListCanariesRequest, context: Context
    ) -> admin_pb2.ListCanariesResponse:
        self._check(context)
        found = await self._canaries.status()
        return admin_pb2.ListCanariesResponse(canaries=map(canary_message, found))

    async def PromoteCanary(
        self, request: admin_pb2.PromoteCanaryRequest, context: Context
    ) -> admin_pb2.PromoteCanaryResponse:
        self._check(context)
        status = await self._canaries.promote(request.model)
        return admin_pb2.PromoteCanaryResponse(canary=canary_message(status))

    async def AbortCanary(
        self, request: admin_pb2.AbortCanaryRequest, context: Context
    ) -> admin_pb2.AbortCanaryResponse:
        self._check(context)
        status = await self._canaries.abort(request.model)
        return admin_pb2.AbortCanaryResponse(canary=canary_message(status))

    async def GetShadowReport(
        self, request: admin_pb2.GetShadowReportRequest, context: Context
    ) -> admin_pb2.GetShadowReportResponse:
        raise UnsupportedError("there are no shadows here")

    def _check(self, context: Context) -> None:
        if value_of(context.invocation_metadata(), API_KEY) != KEY:
            raise UnauthenticatedError


class Mesh:
    """A gateway's admin side, and the commands that talk to it."""

    def __init__(self, target: str, canaries: Canaries, folder: Path) -> None:
        self.target = target
        self.canaries = canaries
        self._folder = folder

    async def run(self, *words: str, key: str = KEY) -> Result:
        """What `mesh canary …` did; it runs in a thread, because it has a loop of its own."""
        options = ("--target", self.target, "--api-key", key, "--state-dir", str(self._folder))
        return await asyncio.to_thread(CliRunner().invoke, canary.make_app(), [*words, *options])


@pytest_asyncio.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    canaries = local_canaries(CanaryMetrics(CollectorRegistry()))
    canaries.replace([ENTRY])
    await canaries.tick()
    server = grpc.aio.server(interceptors=[StatusInterceptor()])
    admin_pb2_grpc.add_AdminServiceServicer_to_server(Admin(canaries), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Mesh(f"127.0.0.1:{port}", canaries, tmp_path)
    await server.stop(None)


async def test_status_tells_a_script_everything(mesh: Mesh) -> None:
    mesh.canaries.observe("chat", "2", "INTERNAL", 0.1, None)
    ended = await mesh.run("status", "--json")
    (document,) = json.loads(ended.stdout)
    assert (document["model"], document["version"], document["stable_version"]) == ("chat", "2", "1")
    assert (document["phase"], document["step"], document["steps"]) == ("running", 0, 3)
    assert (document["weight"], document["shared"]) == (5.0, False)
    assert document["canary"] == {"requests": 1, "errors": 1, "p99_s": None, "first_token_s": None}


async def test_status_tells_a_person_both_versions(mesh: Mesh) -> None:
    ended = await mesh.run("status")
    assert ended.exit_code == 0
    lines = ended.stdout.splitlines()
    assert lines[1].split()[:5] == ["chat", "2", "running", "1/3", "5"]
    assert lines[2].split()[:3] == ["1", "95", "%"]


async def test_promote_and_abort_answer_with_what_became_of_the_canary(mesh: Mesh) -> None:
    promoted = json.loads((await mesh.run("promote", "chat", "--json")).stdout)
    assert (promoted["phase"], promoted["weight"]) == ("promoted", 100.0)
    aborted = json.loads((await mesh.run("abort", "chat", "--json")).stdout)
    assert (aborted["phase"], aborted["weight"]) == ("rolled_back", 0.0)
    assert "rolled back" in (await mesh.run("status", "chat")).stdout


@pytest.mark.parametrize("words", [("promote", "none"), ("abort", "none")])
async def test_a_model_without_a_canary_is_an_error(mesh: Mesh, words: tuple[str, ...]) -> None:
    assert isinstance((await mesh.run(*words)).exception, ModelNotFoundError)


async def test_the_status_of_a_model_without_a_canary_is_an_error_and_no_canaries_are_none(
    mesh: Mesh,
) -> None:
    assert isinstance((await mesh.run("status", "none")).exception, FailedError)
    mesh.canaries.replace([])
    assert (await mesh.run("status")).exit_code == 0
    assert json.loads((await mesh.run("status", "--json")).stdout) == []


async def test_a_wrong_key_and_a_wrong_address_say_so(mesh: Mesh, tmp_path: Path) -> None:
    refused = (await mesh.run("status", key="mesh_other_key")).exception
    assert isinstance(refused, MeshError)
    assert refused.code is grpc.StatusCode.UNAUTHENTICATED
    mesh.target = "127.0.0.1:1"
    assert isinstance((await mesh.run("status")).exception, NotRunningError)
    mesh.target = "nowhere"
    assert isinstance((await mesh.run("status")).exception, UsageError)
