"""Both forms of the public client through a gateway: what arrives, what comes back, who waits how long."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from inference_mesh.client import MeshClient, Retries, SyncMeshClient, vectors_of
from inference_mesh.config.keys_file import ApiKey, new_key
from inference_mesh.errors import (
    CancelledByCallerError,
    DeadlineExceededError,
    InvalidInputError,
    ModelNotFoundError,
    RateLimitedError,
    StreamBrokenError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)
from inference_mesh.v1 import inference_pb2, payload_pb2
from tests.fakes.fake_worker import FakeWorker
from tests.support.clients import Form, both_forms, client_of
from tests.support.gateways import RunningGateway, entry, facts, running_gateway, running_worker

LIMIT_S = 20.0


class Embedder(FakeWorker):
    """Answers texts with vectors: how long each is, and which of them it is."""

    async def Infer(self, request: inference_pb2.InferRequest, context: Any) -> inference_pb2.InferResponse:
        """As many numbers a row as were asked for, 2 otherwise."""
        embed = request.payload.embed
        width = embed.dimensions or 2
        rows = [[len(text), *range(number, number + width - 1)] for number, text in enumerate(embed.texts)]
        values = np.array(rows, dtype="<f4").tobytes()
        return inference_pb2.InferResponse(
            model=self.name,
            version=request.version,
            request_id=request.request_id,
            output=payload_pb2.Output(embed=payload_pb2.Embeddings(dimensions=width, values=values)),
            usage=payload_pb2.Usage(prompt_tokens=len(embed.texts)),
        )


@contextlib.asynccontextmanager
async def mesh_of(
    folder: Path, worker: FakeWorker | None = None, **settings: Any
) -> AsyncIterator[tuple[RunningGateway, FakeWorker]]:
    """A gateway and its ready worker, which is stopped with the block."""
    worker = worker or FakeWorker("one")
    await worker.start()
    try:
        async with running_gateway(folder, [entry("one", worker)], **settings) as mesh:
            await mesh.wait_until_ready("one", worker)
            yield mesh, worker
    finally:
        await worker.stop()


def target_of(mesh: RunningGateway) -> str:
    return f"127.0.0.1:{mesh.gateway.grpc_port}"


def keys_file(folder: Path, *keys: ApiKey) -> Path:
    path = folder / "keys.yaml"
    path.write_text(yaml.safe_dump({"keys": [key.model_dump(mode="json") for key in keys]}))
    return path


def commands(text: str) -> payload_pb2.Payload:
    return payload_pb2.Payload(generate=payload_pb2.Generate(prompt=text))


@both_forms
async def test_every_call_is_answered(tmp_path: Path, form: Form) -> None:
    async with mesh_of(tmp_path) as (mesh, _), client_of(form, target_of(mesh)) as client:
        answer = await client.infer("one", "a text", request_id="mine", timeout_s=LIMIT_S)
        assert (answer.model, answer.request_id) == ("one", "mine")
        assert LIMIT_S / 2 < facts(answer)["time_remaining_s"] < LIMIT_S + 1  # gRPC rounds it up
        pieces = [piece async for piece in client.stream("one", commands("pieces=3"))]
        assert [piece.output.generate.text.strip() for piece in pieces[1:]] == ["0", "1", "2"]
        assert [model.name for model in await client.models()] == ["one"]
        assert (await client.model("one")).task == payload_pb2.TASK_EMBED
        assert (await client.explain("one", "a text")).target.model == "one"
        with pytest.raises(ModelNotFoundError):
            await client.model("two")


@both_forms
async def test_texts_become_vectors_and_the_usage_can_be_read(tmp_path: Path, form: Form) -> None:
    async with (
        mesh_of(tmp_path, Embedder("one")) as (mesh, _),
        client_of(form, target_of(mesh)) as client,
    ):
        vectors = await client.embed("one", ("four", "a"), dimensions=3, prompt_name="query", truncate=True)
        assert vectors.dtype == np.float32
        assert vectors.tolist() == [[4, 0, 1], [1, 1, 2]]
        vectors /= 2  # the caller's own
        assert (await client.embed("one", "four", request_id="mine")).tolist() == [[4, 0]]
        answer = await client.infer("one", {"texts": ["four", "a"]})
        assert vectors_of(answer).tolist() == [[4, 0], [1, 1]]
        assert answer.usage.prompt_tokens == 2


@both_forms
async def test_a_call_over_its_rate_comes_back_when_the_gateway_said(tmp_path: Path, form: Form) -> None:
    plain, key = new_key()
    limited = key.model_copy(update={"requests_per_second": 1.0, "burst": 1})
    async with mesh_of(tmp_path, keys=keys_file(tmp_path, limited)) as (mesh, worker):
        async with client_of(form, target_of(mesh), api_key=plain) as client:
            await client.infer("one", commands(""))
            with pytest.raises(RateLimitedError) as caught:
                await client.infer("one", commands(""))
        hint_s = caught.value.retry_after_s or 0.0
        refused_s = time.monotonic()
        async with client_of(form, target_of(mesh), api_key=plain, retries=Retries(attempts=10)) as client:
            await client.infer("one", commands(""), timeout_s=LIMIT_S)
        waited_s = time.monotonic() - refused_s
    assert 0 < hint_s <= 1
    assert waited_s > 0.9 * hint_s
    assert worker.calls == 2


@both_forms
async def test_a_patient_call_is_answered_by_a_worker_that_comes_later(tmp_path: Path, form: Form) -> None:
    async with running_worker("one") as gone:
        port = gone.port
    async with (
        running_gateway(tmp_path, [entry("one", f"127.0.0.1:{port}")]) as mesh,
        client_of(form, target_of(mesh), retries=Retries(attempts=50)) as client,
        asyncio.TaskGroup() as tasks,
    ):
        # Of one the task is not known yet, of the other it is told.
        calls = [
            tasks.create_task(client.infer("one", payload, timeout_s=LIMIT_S))
            for payload in ("a text", commands(""))
        ]
        refused = {"model": "one", "method": "Infer", "code": "UNAVAILABLE"}
        async with asyncio.timeout(LIMIT_S):
            while not mesh.metric("mesh_gateway_requests_total", **refused):
                await asyncio.sleep(0.01)
        async with running_worker("one", port=port):
            assert [(await call).model for call in calls] == ["one", "one"]


@both_forms
async def test_one_deadline_is_told_to_the_worker_and_ends_the_call(tmp_path: Path, form: Form) -> None:
    async with (
        mesh_of(tmp_path) as (mesh, worker),
        client_of(form, target_of(mesh), retries=Retries(attempts=5)) as client,
    ):
        started_s = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            await client.infer("one", commands("delay=60"), timeout_s=0.5)
        assert time.monotonic() - started_s < LIMIT_S
        for timeout_s in (0.0, -1.0, float("nan")):
            with pytest.raises(DeadlineExceededError):
                await client.infer("one", commands(""), timeout_s=timeout_s)
        assert worker.calls == 1
        await client.infer("one", commands(""), timeout_s=float("inf"))


@both_forms
async def test_what_cannot_be_mended_is_sent_once(tmp_path: Path, form: Form) -> None:
    async with (
        mesh_of(tmp_path) as (mesh, worker),
        client_of(form, target_of(mesh), retries=Retries(attempts=5)) as client,
    ):
        with pytest.raises(InvalidInputError):
            await client.infer("one", commands("status=INVALID_ARGUMENT"))
        with pytest.raises(InvalidInputError):
            [piece async for piece in client.stream("one", commands("status=INVALID_ARGUMENT"))]
        assert worker.calls == 2
        for wrong in ({"dimensions": -1}, {"dimensions": 2.5}, {"truncate": "yes"}, {"prompt_name": 7}):
            with pytest.raises(InvalidInputError):
                await client.embed("one", ["a text"], **wrong)
        with pytest.raises(InvalidInputError):
            await client.embed("one", ["a text", 7])
        with pytest.raises(UnsupportedError):
            await client.embed("one", ["a text"])  # this worker answers with JSON


@both_forms
async def test_a_stream_that_broke_is_not_begun_again(tmp_path: Path, form: Form) -> None:
    async with (
        mesh_of(tmp_path) as (mesh, worker),
        client_of(form, target_of(mesh), retries=Retries(attempts=5)) as client,
    ):
        stream = client.stream("one", commands("tokens=9 break=3"))
        assert [(await anext(stream)).output.generate.text for _ in range(3)] == ["0 ", "1 ", "2 "]
        with pytest.raises(StreamBrokenError):
            await anext(stream)
        assert worker.calls == 1


async def test_leaving_a_loop_reaches_the_worker(tmp_path: Path) -> None:
    async with mesh_of(tmp_path) as (mesh, worker), client_of(MeshClient, target_of(mesh)) as client:
        async for _ in client.stream("one", commands("pieces=100000 gap=0.01")):
            break
        async with asyncio.timeout(LIMIT_S):
            await worker.cancelled.wait()


async def test_leaving_a_loop_without_asyncio_reaches_the_worker(tmp_path: Path) -> None:
    def leave(client: SyncMeshClient) -> None:
        for _ in client.stream("one", commands("pieces=100000 gap=0.01")):
            break

    async with mesh_of(tmp_path) as (mesh, worker):
        with SyncMeshClient(target_of(mesh)) as client:
            await asyncio.to_thread(leave, client)
            async with asyncio.timeout(LIMIT_S):
                await worker.cancelled.wait()


@both_forms
async def test_a_wrong_key_and_a_place_where_nobody_listens(tmp_path: Path, form: Form) -> None:
    (_, known), (unknown, _) = new_key(), new_key()
    patient = Retries(attempts=3)
    async with mesh_of(tmp_path, keys=keys_file(tmp_path, known)) as (mesh, worker):
        for api_key in (unknown, None):
            async with client_of(form, target_of(mesh), api_key=api_key, retries=patient) as client:
                with pytest.raises(UnauthenticatedError):
                    await client.infer("one", commands(""))
                with pytest.raises(UnauthenticatedError):
                    await client.embed("one", ["a text"])
        assert worker.calls == 0
    async with client_of(form, "127.0.0.1:1", retries=patient) as client:
        for call in (client.infer("one", "a text"), client.embed("one", "a text"), client.models()):
            with pytest.raises(UnavailableError):
                await call


async def test_closing_ends_the_calls_of_other_threads(tmp_path: Path) -> None:
    async with mesh_of(tmp_path) as (mesh, worker):
        client = SyncMeshClient(target_of(mesh))
        call = asyncio.create_task(asyncio.to_thread(client.infer, "one", commands("delay=60")))
        async with asyncio.timeout(LIMIT_S):
            while not worker.running:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(client.close)
            with pytest.raises(CancelledByCallerError):
                await call
            await worker.cancelled.wait()
