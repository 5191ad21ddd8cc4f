"""Both forms of the public client do the same: calls, retries, deadlines, and streams that are left."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest

from inference_mesh.client import Retries, SyncMeshClient
from inference_mesh.error_status import status_trailers
from inference_mesh.errors import (
    CancelledByCallerError,
    InvalidInputError,
    MeshError,
    OverloadedError,
    UnavailableError,
)
from inference_mesh.metadata import RETRY_PUSHBACK
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2
from tests.support.clients import Form, both_forms, client_of

LIMIT_S = 10.0
HINT_S = 0.3
Base: Any = inference_pb2_grpc.InferenceServiceServicer


class Server(Base):  # type: ignore[misc]
    """A model that embeds and generates. refusals: what the first calls are refused with.

    pushback: stands in for the trailers that our own servers send with a refusal.
    """

    def __init__(self, *refusals: MeshError) -> None:
        self.refusals = list(refusals)
        self.arrived_s: list[float] = []
        self.pushback: str | None = None
        self.pieces = 3
        self.breaks_after: int | None = None
        self.was_left = asyncio.Event()
        self.target = ""

    async def Infer(self, request: inference_pb2.InferRequest, context: Any) -> inference_pb2.InferResponse:
        """Vectors that tell which text was which."""
        await self._take(context)
        embed = request.payload.embed
        values = np.array([[len(text), 7.0] for text in embed.texts], dtype="<f4")
        made = payload_pb2.Embeddings(dimensions=2, values=values.tobytes())
        return inference_pb2.InferResponse(model=request.model, output=payload_pb2.Output(embed=made))

    async def InferStream(
        self, request: inference_pb2.InferStreamRequest, context: Any
    ) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        """Pieces; more than anybody reads if there are more than ten."""
        await self._take(context)
        try:
            for number in range(self.pieces):
                if number == self.breaks_after:
                    await self._refuse(context, UnavailableError("broken", retry_after_s=0.01))
                generated = payload_pb2.Generated(text=str(number))
                yield inference_pb2.InferStreamResponse(output=payload_pb2.Output(generate=generated))
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.was_left.set()
            raise

    async def GetModel(self, request: inference_pb2.GetModelRequest, context: Any) -> Any:
        """It embeds."""
        model = inference_pb2.Model(name=request.model, task=payload_pb2.TASK_EMBED)
        return inference_pb2.GetModelResponse(model=model)

    async def _take(self, context: Any) -> None:
        self.arrived_s.append(time.monotonic())
        if self.refusals:
            await self._refuse(context, self.refusals.pop(0))

    async def _refuse(self, context: Any, error: MeshError) -> None:
        pushed = None if self.pushback is None else ((RETRY_PUSHBACK, self.pushback),)
        await context.abort(error.code, error.message, pushed or status_trailers(error))


@contextlib.asynccontextmanager
async def serving(*refusals: MeshError) -> AsyncIterator[Server]:
    """The server on a free port."""
    service, server = Server(*refusals), grpc.aio.server()
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(service, server)
    service.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield service
    finally:
        await server.stop(0)


async def embedded(form: Form, target: str, timeout_s: float = LIMIT_S, **settings: Any) -> Any:
    """The vectors of two texts, asked for by a client of either form."""
    async with client_of(form, target, **settings) as client:
        return await client.embed("m", ["a", "four"], timeout_s=timeout_s)


async def streamed(
    form: Form, target: str, most: int = 1000, left: asyncio.Event | None = None, **settings: Any
) -> list[str]:
    """The texts of a stream, left after so many. left: to wait for before the connection is closed."""
    payload = payload_pb2.Payload(generate=payload_pb2.Generate(prompt="x"))
    texts: list[str] = []
    async with client_of(form, target, **settings) as client:
        async with contextlib.aclosing(client.stream("m", payload)) as stream:
            async for piece in stream:
                texts.append(piece.output.generate.text)
                if len(texts) == most:
                    break
        if left is not None:
            async with asyncio.timeout(LIMIT_S):
                await left.wait()
    return texts


@both_forms
async def test_texts_become_rows_of_float32(form: Form) -> None:
    async with serving() as server:
        vectors = await embedded(form, server.target)
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[1.0, 7.0], [4.0, 7.0]]


@both_forms
async def test_a_call_is_sent_once_unless_told_otherwise(form: Form) -> None:
    async with serving(OverloadedError("full", retry_after_s=0.01)) as server:
        with pytest.raises(OverloadedError):
            await embedded(form, server.target)
        assert len(server.arrived_s) == 1


@both_forms
async def test_a_refused_call_comes_back_when_the_server_said(form: Form) -> None:
    async with serving(OverloadedError("full", retry_after_s=HINT_S)) as server:
        assert len(await embedded(form, server.target, retries=Retries())) == 2
    first_s, second_s = server.arrived_s
    assert second_s - first_s >= HINT_S


@both_forms
async def test_a_server_that_asks_not_to_come_back_is_left_alone(form: Form) -> None:
    async with serving(UnavailableError("closed"), UnavailableError("closed")) as server:
        server.pushback = "-1"
        with pytest.raises(UnavailableError):
            await embedded(form, server.target, retries=Retries())
        with pytest.raises(UnavailableError):
            await streamed(form, server.target, retries=Retries())
        assert len(server.arrived_s) == 2


@both_forms
async def test_a_pushback_alone_is_a_hint_as_well(form: Form) -> None:
    async with serving(UnavailableError("closed"), UnavailableError("closed")) as server:
        server.pushback = str(round(HINT_S * 1000))
        await streamed(form, server.target, retries=Retries())
    first_s, second_s, third_s = server.arrived_s
    assert min(second_s - first_s, third_s - second_s) >= HINT_S


@both_forms
async def test_closing_ends_a_wait(form: Form) -> None:
    async with serving(OverloadedError("full", retry_after_s=LIMIT_S)) as server:
        async with client_of(form, server.target, retries=Retries()) as client:
            call = asyncio.create_task(client.embed("m", ["a"], timeout_s=10 * LIMIT_S))
            async with asyncio.timeout(LIMIT_S):
                while not server.arrived_s:
                    await asyncio.sleep(0.01)
                await client.model("m")  # so that the refusal, which was sent before, has arrived
        async with asyncio.timeout(LIMIT_S / 2):
            with pytest.raises(CancelledByCallerError):
                await call


@both_forms
async def test_a_wrong_request_is_not_repeated(form: Form) -> None:
    async with serving(InvalidInputError("no")) as server:
        with pytest.raises(InvalidInputError):
            await embedded(form, server.target, retries=Retries())
        assert len(server.arrived_s) == 1


@both_forms
async def test_one_deadline_holds_for_all_attempts(form: Form) -> None:
    refusals = [OverloadedError("full", retry_after_s=HINT_S)] * 20
    async with serving(*refusals) as server:
        started = time.monotonic()
        with pytest.raises(OverloadedError):
            await embedded(form, server.target, 3.5 * HINT_S, retries=Retries(attempts=20))
        assert time.monotonic() - started < 4 * HINT_S
        assert 2 <= len(server.arrived_s) <= 4


@both_forms
async def test_a_stream_is_repeated_before_its_first_piece_and_never_after(form: Form) -> None:
    async with serving(UnavailableError("later", retry_after_s=0.01)) as server:
        assert await streamed(form, server.target, retries=Retries()) == ["0", "1", "2"]
        assert len(server.arrived_s) == 2

        server.breaks_after = 1
        with pytest.raises(UnavailableError):
            await streamed(form, server.target, retries=Retries())
        assert len(server.arrived_s) == 3


@both_forms
async def test_a_stream_that_is_left_is_cancelled_at_the_server(form: Form) -> None:
    async with serving() as server:
        server.pieces = 100_000
        started = time.monotonic()
        assert await streamed(form, server.target, 2, server.was_left) == ["0", "1"]
        assert server.was_left.is_set()
        assert time.monotonic() - started < LIMIT_S / 2


@both_forms
async def test_nobody_listens(form: Form) -> None:
    with pytest.raises(UnavailableError):
        await embedded(form, "127.0.0.1:1", timeout_s=2.0)


async def test_several_threads_share_a_client() -> None:
    async with serving() as server:
        with SyncMeshClient(server.target) as client:
            answers = await asyncio.gather(
                *(asyncio.to_thread(client.embed, "m", ["x" * number]) for number in range(1, 9))
            )
    assert [answer[0, 0] for answer in answers] == list(range(1, 9))
