"""Who listens to a worker's load hears what is true of it: xds.service.orca.v3.OpenRcaService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from inference_mesh import load_report, metadata
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2
from inference_mesh.v1.load_report_pb2 import OrcaLoadReportRequest
from tests.fakes.echo_engine import EchoEngine
from tests.support.workers import ServedWorker, served_worker
from workers.load_stream import MOST_LISTENERS

METHOD = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics"
"""As gRFC A51 names it."""


@pytest.fixture
async def engine() -> EchoEngine:
    return EchoEngine()


@pytest.fixture
async def worker(engine: EchoEngine) -> AsyncIterator[ServedWorker]:
    async with served_worker(engine, load_report_interval_s=0.01) as served:
        yield served


def listen(worker: ServedWorker, seconds: float = 0.0) -> Any:
    """A stream of reports, as bytes."""
    interval = Duration()
    interval.FromNanoseconds(int(seconds * 1e9))
    request = OrcaLoadReportRequest(report_interval=interval).SerializeToString()
    method: Any = worker.channel.unary_stream(METHOD)
    return method(request)


async def next_report(stream: Any) -> load_report.LoadReport:
    """The next report of a stream."""
    async with asyncio.timeout(10):
        data = await stream.read()
    assert isinstance(data, bytes), "the stream ended"
    report = load_report.decode(data)
    assert report is not None
    return report


async def test_a_report_comes_at_once_and_then_after_each_interval(worker: ServedWorker) -> None:
    stream = listen(worker, 0.01)
    reports = [await next_report(stream) for _ in range(3)]
    assert {(one.utilization, one.queued, one.kv_utilization) for one in reports} == {(0.5, 2, 0.25)}
    stream.cancel()


async def test_the_stream_says_what_the_trailers_say(worker: ServedWorker, engine: EchoEngine) -> None:
    stub: Any = inference_pb2_grpc.InferenceServiceStub(worker.channel)
    payload = payload_pb2.Payload(generate=payload_pb2.Generate(prompt="forever and ever"))
    running = stub.InferStream(inference_pb2.InferStreamRequest(model="echo", payload=payload))
    await running.read()
    stream = listen(worker, 0.01)
    assert (await next_report(stream)).running == 1
    engine.may_continue.set()
    while await running.read() is not grpc.aio.EOF:
        pass
    trailers = dict(await running.trailing_metadata())
    said = load_report.decode(trailers[metadata.LOAD_REPORT])
    assert said is not None
    async with asyncio.timeout(10):
        while (await next_report(stream)).running:
            pass
    assert (said.queued, said.kv_utilization) == (2, 0.25)
    stream.cancel()


async def test_an_interval_that_is_too_short_counts_as_the_shortest() -> None:
    async with served_worker(EchoEngine(), load_report_interval_s=3600) as worker:
        stream = listen(worker, 0.001)
        await next_report(stream)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await stream.read()


async def test_an_interval_below_zero_is_refused(worker: ServedWorker) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await listen(worker, -1.0).read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_one_listener_too_many_is_refused_with_a_hint_and_has_a_place_later(
    worker: ServedWorker,
) -> None:
    streams = [listen(worker, 3600.0) for _ in range(MOST_LISTENERS)]
    for stream in streams:
        await next_report(stream)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await listen(worker).read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "grpc-retry-pushback-ms" in dict(caught.value.trailing_metadata() or ())
    streams[0].cancel()
    async with asyncio.timeout(10):
        while True:
            try:
                await next_report(listen(worker, 3600.0))
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0)


async def test_a_stop_ends_the_streams_before_the_grace_is_over(worker: ServedWorker) -> None:
    stream = listen(worker, 3600.0)
    await next_report(stream)
    async with asyncio.timeout(5):
        await worker.service.stop(60.0)
    assert await stream.read() is grpc.aio.EOF
