"""The worker and its peers as running servers, and one way to ask each of them for tokens.

Owns how each is started (same model, threads and waiting) and how its answers are counted: greedy,
streamed, always as many tokens as asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
import string
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Protocol

import grpc

from inference_mesh import metadata
from inference_mesh.channels import open_channel
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2
from tests.support.processes import (
    REPOSITORY,
    START_LIMIT_S,
    STOP_LIMIT_S,
    ProcessGroup,
    cpu_seconds,
    http_status_of,
    process_group,
    wait_until,
)

MODEL = "measured"
ANSWER_LIMIT_S = 120.0
END_TOKENS = (0, 2)


@dataclasses.dataclass(frozen=True)
class Setup:
    """How every server is started. endless: the model would end answers by itself."""

    model: Path
    threads: int
    slots: int = 16
    context: int = 1024
    endless: bool = False
    waiting: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"OMP_WAIT_POLICY": "passive"})


@dataclasses.dataclass(frozen=True)
class Question:
    """A prompt, how many tokens to answer, and whose it is."""

    prompt: str
    tokens: int
    tenant: str = ""


@dataclasses.dataclass(frozen=True)
class Arrivals:
    """When a question was sent and when its pieces came, in seconds of `time.perf_counter()`.

    counts: tokens of each piece.
    """

    sent_s: float
    at_s: Sequence[float]
    counts: Sequence[int]

    @property
    def first_s(self) -> float:
        """Time to the first token."""
        return self.at_s[0] - self.sent_s

    @property
    def tokens(self) -> int:
        """Tokens of the answer."""
        return sum(self.counts)


class Server(Protocol):
    """A server under measurement."""

    name: str
    pid: int

    async def answer(self, question: Question) -> Arrivals:
        """The arrivals of a whole answer."""


class Worker:
    """Our worker, asked by gRPC."""

    def __init__(self, name: str, pid: int, target: str, endless: bool) -> None:
        self.name = name
        self.pid = pid
        self.target = target
        self._bias = dict.fromkeys(END_TOKENS, -100.0) if endless else {}
        self._channel: grpc.aio.Channel | None = None

    async def answer(self, question: Question) -> Arrivals:
        """See Server."""
        generate = payload_pb2.Generate(
            prompt=question.prompt,
            max_tokens=question.tokens,
            sampling=payload_pb2.Sampling(temperature=0, logit_bias=self._bias),
        )
        request = inference_pb2.InferStreamRequest(
            model=MODEL, payload=payload_pb2.Payload(generate=generate)
        )
        at: list[float] = []
        counts: list[int] = []
        terms = ((metadata.TENANT, question.tenant),) if question.tenant else ()
        sent = time.perf_counter()
        async for message in self._stub().InferStream(request, metadata=terms, timeout=ANSWER_LIMIT_S):
            tokens = len(message.output.generate.tokens)
            if tokens:
                at.append(time.perf_counter())
                counts.append(tokens)
        return _checked(Arrivals(sent, at, counts), question)

    async def close(self) -> None:
        """Close its connection."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    def _stub(self) -> inference_pb2_grpc.InferenceServiceAsyncStub:
        self._channel = self._channel or open_channel(self.target)
        stub: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(
            self._channel
        )
        return stub


@dataclasses.dataclass
class Peer:
    """Another server, asked by HTTP with server-sent events; `body` makes its request."""

    name: str
    pid: int
    port: int
    path: str
    fields: Mapping[str, object]
    length_field: str

    async def answer(self, question: Question) -> Arrivals:
        """See Server. A plain socket: an HTTP library would take the servers' CPU time from them."""
        fields = {**self.fields, "prompt": question.prompt, self.length_field: question.tokens}
        body = json.dumps(fields).encode()
        head = f"POST {self.path} HTTP/1.1\r\nHost: peer\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        sent, at = time.perf_counter(), []
        async with asyncio.timeout(ANSWER_LIMIT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(head.encode() + body)
            last = b""
            async for line in reader:
                if line.startswith(b"data: {"):
                    last = line
                    at.append(time.perf_counter())
            writer.close()
        if b'"stop_type":"limit"' not in last and b'"length"' not in last:
            raise AssertionError(f"{self.name} ended otherwise than by the length: {last!r}")
        # The last event has no token; half a character is held back and has none of its own.
        return Arrivals(sent, at[:-1], [*([1] * (len(at) - 2)), question.tokens - len(at) + 2])


def _checked(arrivals: Arrivals, question: Question) -> Arrivals:
    if arrivals.tokens != question.tokens:
        raise AssertionError(f"{arrivals.tokens} tokens came of {question.tokens}")
    return arrivals


class Servers:
    """Starts servers, and ends every one of them with the block."""

    def __init__(self, group: ProcessGroup, folder: Path) -> None:
        self._group = group
        self._folder = folder
        self._peers: list[subprocess.Popen[bytes]] = []
        self._workers: list[Worker] = []

    def worker(self, setup: Setup, *arguments: str) -> Worker:
        """Our worker, ready."""
        process = self._group.worker(
            setup.model,
            *("--slots", str(setup.slots), "--context", str(setup.context), "--threads", str(setup.threads)),
            *arguments,
            name=MODEL,
            runtime="llama",
        )
        process.wait_until_ready()
        self._workers.append(Worker("worker", process.pid, process.grpc_target, setup.endless))
        return self._workers[-1]

    def llama_server(self, programs: Path, setup: Setup, *arguments: str) -> Peer:
        """llama.cpp's own server, ready: continuous batching, one pool of cells as in the worker.

        Without its copies of prompts in memory and its log, which would only cost it time here.
        """
        port = _free_port()
        command = [
            str(programs / "llama-server"),
            *("--model", str(setup.model), "--host", "127.0.0.1", "--port", str(port)),
            *("--threads", str(setup.threads), "--parallel", str(setup.slots), "--cont-batching"),
            *("--ctx-size", str(setup.slots * setup.context), "--kv-unified", "--cache-ram", "0"),
            *("--no-ui", "--no-slots", "--log-disable"),
            *arguments,
        ]
        pid = self._start("llama-server", command, f"http://127.0.0.1:{port}/health", setup)
        fields = {"stream": True, "temperature": 0, "ignore_eos": setup.endless}
        return Peer("llama-server", pid, port, "/completion", fields, "n_predict")

    def llama_cpp_server(self, python: Path, setup: Setup) -> Peer:
        """The server of the package llama-cpp-python, ready."""
        port = _free_port()
        command = [
            *(str(python), "-m", "llama_cpp.server", "--model", str(setup.model), "--port", str(port)),
            *("--n_ctx", str(setup.context), "--n_threads", str(setup.threads)),
            *("--n_threads_batch", str(setup.threads)),
            *("--interrupt_requests", "false", "--verbose", "false"),
        ]
        pid = self._start("llama_cpp.server", command, f"http://127.0.0.1:{port}/v1/models", setup)
        fields = {"stream": True, "temperature": 0}
        return Peer("llama_cpp.server", pid, port, "/v1/completions", fields, "max_tokens")

    async def close(self) -> None:
        """Close the connections; in the event loop that asked."""
        for worker in self._workers:
            await worker.close()

    def end(self) -> None:
        """End the peers; the workers end with their group."""
        for peer in self._peers:
            peer.terminate()
            try:
                peer.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                peer.kill()
                peer.wait()

    def _start(self, name: str, command: Sequence[str], health_url: str, setup: Setup) -> int:
        log_file = self._folder / f"{name}.log"
        with log_file.open("wb") as log:
            popen = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=REPOSITORY, env={**os.environ, **setup.waiting}
            )
        self._peers.append(popen)

        def is_ready() -> bool:
            if popen.poll() is not None:
                raise AssertionError(f"{name} did not start: {log_file.read_text()[-2000:]}")
            return http_status_of(health_url) == 200

        wait_until(is_ready, f"{name} is ready", START_LIMIT_S)
        return popen.pid


@contextlib.contextmanager
def servers() -> Iterator[Servers]:
    """Servers that are ended with the block."""
    with tempfile.TemporaryDirectory() as folder, process_group(Path(folder)) as group:
        started = Servers(group, Path(folder))
        try:
            yield started
        finally:
            started.end()


@dataclasses.dataclass(frozen=True)
class Run:
    """What questions asked at once brought, and what they cost the server."""

    arrivals: Sequence[Arrivals]
    seconds: float
    cpu_s: float

    @property
    def tokens(self) -> int:
        """Tokens of all answers."""
        return sum(one.tokens for one in self.arrivals)


async def ask_at_once(server: Server, questions: Sequence[Question]) -> Run:
    """All questions at the same time, to the end of the last answer."""
    before, started = cpu_seconds(server.pid), time.perf_counter()
    arrivals = await asyncio.gather(*(server.answer(question) for question in questions))
    seconds = time.perf_counter() - started
    return Run(arrivals, seconds, cpu_seconds(server.pid) - before)


def letters(random: Random, count: int) -> str:
    """A prompt that no other begins like; one token a letter for the model of random weights."""
    return "".join(random.choices(string.ascii_lowercase, k=count))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
