"""The gateway's upstream side alone: a fleet, a relay, and a client that keeps what it gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pydantic
from prometheus_client import CollectorRegistry

from gateway.call import Call
from gateway.policy.facts import Admit, Caller
from gateway.policy.request_cost import payload_facts
from gateway.upstream.attempts import RetryBudgets
from gateway.upstream.fleet import Fleet, GrpcModel
from gateway.upstream.metrics import UpstreamMetrics
from gateway.upstream.relay import Relay
from gateway.upstream.worker_connections import WorkerConnections
from inference_mesh.background import Background
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.v1 import inference_pb2, payload_pb2
from tests.fakes.fake_worker import FakeWorker

STREAM = "/inference_mesh.v1.InferenceService/InferStream"
UNARY = "/inference_mesh.v1.InferenceService/Infer"
MAX_MESSAGE_BYTES = 1 << 20


class Client:
    """What a relay sees of the caller."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.initial: list[tuple[str, str | bytes]] | None = None
        self.trailers: tuple[tuple[str, str | bytes], ...] = ()
        self.has_more = asyncio.Event()

    async def send_initial_metadata(self, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        """Once at most."""
        assert self.initial is None
        self.initial = list(metadata)

    async def write(self, message: bytes) -> None:
        """Keep one message."""
        self.written.append(message)
        self.has_more.set()

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str | bytes], ...]) -> None:
        """Replace the trailers."""
        self.trailers = metadata

    @property
    def answers(self) -> list[inference_pb2.InferStreamResponse]:
        """What came, parsed."""
        return [inference_pb2.InferStreamResponse.FromString(message) for message in self.written]

    @property
    def text(self) -> str:
        """The whole text so far."""
        return "".join(answer.output.generate.text for answer in self.answers)

    async def got(self, messages: int, limit_s: float = 10) -> None:
        """Wait for so many messages."""
        async with asyncio.timeout(limit_s):
            while len(self.written) < messages:
                self.has_more.clear()
                await self.has_more.wait()


class Upstream:
    """A fleet that serves entries of the registry, and a relay to it."""

    def __init__(self, background: Background, seed: int = 1) -> None:
        self.registry = CollectorRegistry()
        self.changes = 0
        self.metrics = UpstreamMetrics(self.registry)
        connections = WorkerConnections(max_message_bytes=MAX_MESSAGE_BYTES)
        self.fleet = Fleet(background, self.metrics, connections, on_change=self._count_change)
        self.relay = Relay(self.metrics, RetryBudgets(), random.Random(seed))

    def _count_change(self) -> None:
        self.changes += 1

    async def apply(self, *entries: ModelEntry) -> None:
        """Serve these entries."""
        await self.fleet.apply(entries, lambda: None)

    def target(self, name: str = "chat", version: str = "") -> GrpcModel:
        """A version of a model."""
        found = self.fleet.target(name, version)
        assert isinstance(found, GrpcModel)
        return found

    async def ready(self, count: int, name: str = "chat", version: str = "", limit_s: float = 10) -> None:
        """Wait for so many ready replicas."""
        async with asyncio.timeout(limit_s):
            while len(self.target(name, version).pool.ready) != count:
                await asyncio.sleep(0.01)

    def call(
        self, method: str = "InferStream", timeout_s: float | None = 20, version: str = "", **caller: Any
    ) -> Call:
        """A call of the model "chat", admitted."""
        now_s = asyncio.get_running_loop().time()
        deadline = None if timeout_s is None else now_s + timeout_s
        call = Call(method, cast("Any", Client()), (), now_s, deadline, request_id="id-1")
        target = self.fleet.target("chat", version)
        assert target is not None
        call.admission = Admit(Caller(**caller), target.entry, version)
        return call

    async def stream(self, call: Call, request: inference_pb2.InferStreamRequest) -> None:
        """Relay a stream to its end."""
        await self.relay.server_stream(call, self.target(), STREAM, request.SerializeToString())

    async def unary(
        self, call: Call, request: inference_pb2.InferRequest, version: str = ""
    ) -> inference_pb2.InferResponse:
        """Relay one request."""
        target = self.target(version=version)
        call.beginning = payload_facts(request.payload).beginning
        answer = await self.relay.unary(call, target, UNARY, request.SerializeToString())
        return inference_pb2.InferResponse.FromString(answer)

    def metric(self, name: str, **labels: str) -> float:
        """Value of one metric; 0 if it has no such sample."""
        return self.registry.get_sample_value(name, labels) or 0.0


def client_of(call: Call) -> Client:
    """Who made the call."""
    return cast("Client", call.context)


def model_entry(*workers: Any, name: str = "chat", **fields: Any) -> ModelEntry:
    """An entry of the registry; workers: what has a `target`, or host:port."""
    if "versions" not in fields:
        fields["endpoints"] = [getattr(worker, "target", worker) for worker in workers]
    return pydantic.TypeAdapter(ModelEntry).validate_python({"name": name, **fields})


def generate(commands: str, **sampling: float) -> inference_pb2.InferStreamRequest:
    """A stream of text; commands: of the fake worker."""
    made = payload_pb2.Generate(prompt=commands, sampling=payload_pb2.Sampling(**cast("Any", sampling)))
    return inference_pb2.InferStreamRequest(model="chat", payload=payload_pb2.Payload(generate=made))


def prompt(commands: str = "") -> inference_pb2.InferRequest:
    """One request; commands: of the fake worker."""
    payload = payload_pb2.Payload(generate=payload_pb2.Generate(prompt=commands))
    return inference_pb2.InferRequest(model="chat", payload=payload)


def worker_of(answer: inference_pb2.InferResponse) -> str:
    """The label of the worker that answered."""
    return str(json.loads(answer.output.json)["worker"])


@contextlib.asynccontextmanager
async def two_workers() -> AsyncIterator[tuple[FakeWorker, FakeWorker]]:
    """Two replicas of the model "chat", "a" and "b"."""
    async with running_worker("chat", label="a") as first, running_worker("chat", label="b") as second:
        yield first, second


@contextlib.asynccontextmanager
async def running_worker(name: str, *, label: str = "", slots: int = 0) -> AsyncIterator[FakeWorker]:
    """A fake worker inside the test."""
    worker = FakeWorker(name, label=label, slots=slots)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


@contextlib.asynccontextmanager
async def running_upstream(*entries: ModelEntry) -> AsyncIterator[Upstream]:
    """An upstream that serves these entries, closed with the block."""
    background = Background()
    await background.open()
    upstream = Upstream(background)
    try:
        await upstream.apply(*entries)
        yield upstream
    finally:
        await background.close()
        await upstream.fleet.close()
