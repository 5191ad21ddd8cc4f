"""`mesh explain` and the client's `explain` against a real PolicyService."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import typer
from typer.testing import CliRunner, Result

from inference_mesh.channels import server_options
from inference_mesh.client import MeshClient
from inference_mesh.errors import MeshError, UnauthenticatedError
from inference_mesh.metadata import API_KEY, value_of
from inference_mesh.status_interceptor import StatusInterceptor
from inference_mesh.v1 import inference_pb2_grpc, policy_pb2, policy_pb2_grpc
from mesh_cli.commands.explain import explain
from mesh_cli.errors import NotRunningError, UsageError
from tests.fakes.fake_gateway import FakeGateway

KEY = "mesh_someone_secret"
SPENT = policy_pb2.LimitStanding(
    name="tenant:acme:tokens",
    kind="tokens",
    limit=1000,
    remaining=0,
    window_s=60,
    reset_s=12.5,
    degraded=True,
)
CALLS = policy_pb2.LimitStanding(name="key:ab:concurrency", kind="concurrency", limit=4, remaining=3)


class Gateway(FakeGateway, policy_pb2_grpc.PolicyServiceServicer):
    """Explains every call alike, and notes what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: policy_pb2.ExplainRequest | None = None

    async def Explain(self, request: policy_pb2.ExplainRequest, context: Any) -> policy_pb2.ExplainResponse:
        if value_of(context.invocation_metadata(), API_KEY) != KEY:
            raise UnauthenticatedError
        self.asked = request
        answer = policy_pb2.ExplainResponse(tenant="acme", key_id="ab", priority="high")
        if request.model == "none":
            answer.refusal.code, answer.refusal.reason = "NOT_FOUND", "MODEL_NOT_FOUND"
            answer.refusal.message = "no model 'none'"
            return answer
        answer.target.model, answer.target.version, answer.rule = request.model, "2", "canary"
        answer.fallback.append("spare")
        answer.prompt_tokens, answer.completion_tokens, answer.expected_wait_s = 7, 32, 0.25
        answer.limits.extend([SPENT, CALLS])
        answer.replicas.add(address="127.0.0.1:1", available=True, outstanding=3, weight=0.5, home=True)
        answer.refusal.code, answer.refusal.reason = "RESOURCE_EXHAUSTED", "TOKEN_BUDGET_SPENT"
        answer.refusal.message, answer.refusal.retry_after_s = "the [budget] is spent", 12.5
        return answer


class Mesh:
    """The gateway, and the command that asks it."""

    def __init__(self, target: str, gateway: Gateway) -> None:
        self.target = target
        self.gateway = gateway

    @property
    def asked(self) -> policy_pb2.ExplainRequest:
        """The last request."""
        assert self.gateway.asked is not None
        return self.gateway.asked

    async def run(self, *words: str, key: str = KEY) -> Result:
        """What `mesh explain …` did; it runs in a thread, because it has a loop of its own."""
        app = typer.Typer()
        app.command()(explain)
        options = ("--target", self.target, "--api-key", key)
        return await asyncio.to_thread(CliRunner().invoke, app, [*words, *options])


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    gateway = Gateway()
    server = grpc.aio.server(interceptors=[StatusInterceptor()], options=server_options())
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(gateway, server)
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(gateway, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Mesh(f"127.0.0.1:{port}", gateway)
    await server.stop(None)


async def test_a_script_is_told_everything(mesh: Mesh) -> None:
    ended = await mesh.run("chat", "--json")
    document = json.loads(ended.stdout)
    assert document["target"] == {"model": "chat", "version": "2"}
    assert (document["tenant"], document["key_id"], document["priority"]) == ("acme", "ab", "high")
    assert (document["rule"], document["fallback"]) == ("canary", ["spare"])
    assert (document["prompt_tokens"], document["completion_tokens"]) == (7, 32)
    assert document["expected_wait_s"] == 0.25
    assert document["limits"][0] == {
        "name": "tenant:acme:tokens",
        "kind": "tokens",
        "limit": 1000,
        "remaining": 0,
        "window_s": 60,
        "reset_s": 12.5,
        "degraded": True,
    }
    assert document["replicas"][0]["home"] is True
    assert document["refusal"]["reason"] == "TOKEN_BUDGET_SPENT"
    assert document["refusal"]["retry_after_s"] == 12.5


async def test_a_person_sees_the_refusal_the_limits_and_the_replicas(mesh: Mesh) -> None:
    ended = await mesh.run("chat")
    assert ended.exit_code == 0
    told = " ".join(ended.stdout.split())
    assert "refused RESOURCE_EXHAUSTED TOKEN_BUDGET_SPENT: the [budget] is spent" in told
    assert "come back in 12.5 s" in told
    assert "chat version 2, by canary" in told
    assert "tenant:acme:tokens 0 1,000 tokens 60 s 12.5 s Redis is gone" in told
    assert "key:ab:concurrency 3 4 concurrency at once -" in told
    assert "127.0.0.1:1 yes 3 0.50 home" in told


async def test_without_a_text_nothing_would_be_sent(mesh: Mesh) -> None:
    await mesh.run("chat", "--version", "2", "--sticky", "s-1")
    assert not mesh.asked.HasField("payload")
    assert (mesh.asked.version, mesh.asked.sticky_key) == ("2", "s-1")


async def test_a_text_or_a_payload_becomes_what_would_be_sent(mesh: Mesh) -> None:
    await mesh.run("chat", "Hello", "--max-tokens", "9")
    assert mesh.asked.payload.generate.chat.messages[0].content == "Hello"
    assert mesh.asked.payload.generate.max_tokens == 9
    await mesh.run("chat", "--payload", '{"prompt": "Once"}')
    assert mesh.asked.payload.generate.prompt == "Once"


async def test_an_unknown_model_is_explained_and_not_an_error(mesh: Mesh) -> None:
    ended = await mesh.run("none", "Hello", "--json")
    document = json.loads(ended.stdout)
    assert (document["target"], document["refusal"]["code"]) == (None, "NOT_FOUND")
    assert "refused" in (await mesh.run("none")).stdout


async def test_wrong_words_a_wrong_key_and_a_wrong_address_say_so(mesh: Mesh) -> None:
    assert isinstance((await mesh.run("chat", "Hi", "--payload", "{}")).exception, UsageError)
    assert isinstance((await mesh.run("chat", "--max-tokens", "3")).exception, UsageError)
    refused = (await mesh.run("chat", key="mesh_other_key")).exception
    assert isinstance(refused, MeshError)
    assert refused.code is grpc.StatusCode.UNAUTHENTICATED
    mesh.target = "127.0.0.1:1"
    assert isinstance((await mesh.run("chat")).exception, NotRunningError)


async def test_the_client_explains_as_well(mesh: Mesh) -> None:
    async with MeshClient(mesh.target, api_key=KEY) as client:
        answer = await client.explain("chat", {"prompt": "Once"}, version="2", sticky_key="s-1")
    assert answer.target.version == "2"
    assert mesh.asked.payload.generate.prompt == "Once"
