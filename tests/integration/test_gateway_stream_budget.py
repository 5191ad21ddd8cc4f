"""A stream of requests (ModelStreamInfer) and the token budget of its caller."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc

from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.oip import open_inference_pb2_grpc
from tests.integration.parity.engine import WORDS, ThreeWords
from tests.support.callers import write_callers
from tests.support.gateways import RunningGateway, running_gateway
from tests.support.workers import served_worker

BUDGET = 600
USED_BY_ONE = 3 + len(WORDS)
LEAST_RESERVED = 20 + len("hello")
"""For one request: the longest answer, and each byte of its prompt."""


def request(number: int) -> oip.ModelInferRequest:
    """A text for the model."""
    tensor = oip.ModelInferRequest.InferInputTensor(name="text_input", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(b"hello")
    return oip.ModelInferRequest(model_name="chat", id=str(number), inputs=[tensor])


async def answered(
    running: RunningGateway, credential: Any, count: int, *, leaves: bool = False
) -> tuple[int, grpc.StatusCode]:
    """How many requests of a stream were answered, one after the other, and what it ended with.

    leaves: the caller cancels behind the last answer.
    """
    stub: Any = open_inference_pb2_grpc.GRPCInferenceServiceStub(running.channel)
    call = stub.ModelStreamInfer(metadata=credential)
    for number in range(count):
        try:
            await call.write(request(number))
            for _ in WORDS:
                if await call.read() is grpc.aio.EOF:
                    return number, await call.code()
        except grpc.aio.AioRpcError as error:
            return number, error.code()
    if leaves:
        call.cancel()
        return count, await call.code()
    await call.done_writing()
    while await call.read() is not grpc.aio.EOF:
        pass
    return count, await call.code()


async def streams_until_refused(running: RunningGateway, credential: Any, *, leaves: bool = False) -> int:
    """How many streams of one request find room in a budget, one after the other."""
    for number in range(BUDGET):
        _, code = await answered(running, credential, 1, leaves=leaves)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return number
        while running.metric("mesh_gateway_in_flight", model="chat"):
            await asyncio.sleep(0.001)
    raise AssertionError("the budget has no end")


async def test_each_request_of_a_stream_reserves_and_a_stream_is_charged_what_it_used(tmp_path: Path) -> None:
    tenants = [
        {"name": name, "limits": {"tokens": {"amount": BUDGET, "per": "day"}}}
        for name in ("one", "many", "gone")
    ]
    callers = write_callers(tmp_path, *tenants)
    async with served_worker(ThreeWords("chat")) as worker:
        model = {"name": "chat", "task": "generate", "endpoints": [worker.target], "max_tokens": 20}
        async with running_gateway(tmp_path, [model], **callers.settings) as running:
            count, code = await answered(running, callers["one"], 50)
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert 1 < count <= BUDGET / LEAST_RESERVED
            # What ends well is charged what it used; who leaves is charged what it may have used.
            assert await streams_until_refused(running, callers["many"]) > BUDGET / USED_BY_ONE / 2
            left_early = await streams_until_refused(running, callers["gone"], leaves=True)
            assert 1 < left_early <= BUDGET / LEAST_RESERVED * 2
