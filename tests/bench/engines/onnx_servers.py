"""The worker and MLServer as running servers, and one way to ask each of them for a vector."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import grpc
import numpy as np
from numpy.typing import NDArray

from inference_mesh.oip import open_inference_pb2, open_inference_pb2_grpc
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2
from tests.bench.peers.environment import peer_python
from tests.support.processes import (
    MINILM,
    REPOSITORY,
    START_LIMIT_S,
    MeshProcess,
    cpu_seconds,
    end_process,
    http_status_of,
    process_group,
    wait_until,
)

MODEL = "minilm"
ANSWER_LIMIT_S = 60.0
RUNTIME = REPOSITORY / "tests" / "bench" / "peers" / "mlserver_runtime.py"

Vector = NDArray[np.float32]


class Server(Protocol):
    """A server under measurement."""

    pid: int

    async def embed(self, text: str) -> Vector:
        """The vector of a text."""


class Worker:
    """Our worker."""

    def __init__(self, pid: int, channel: grpc.aio.Channel) -> None:
        self.pid = pid
        self.stub: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(
            channel
        )

    async def embed(self, text: str) -> Vector:
        """See Server."""
        answer = await self.stub.Infer(request([text]), timeout=ANSWER_LIMIT_S)
        return np.frombuffer(answer.output.embed.values, "<f4")


class MlServer:
    """MLServer."""

    def __init__(self, pid: int, channel: grpc.aio.Channel) -> None:
        self.pid = pid
        self._stub: open_inference_pb2_grpc.GRPCInferenceServiceAsyncStub = (
            open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        )

    async def embed(self, text: str) -> Vector:
        """See Server."""
        tensor = open_inference_pb2.ModelInferRequest.InferInputTensor(
            name="text",
            datatype="BYTES",
            shape=[1, 1],
            contents=open_inference_pb2.InferTensorContents(bytes_contents=[text.encode()]),
        )
        asked = open_inference_pb2.ModelInferRequest(model_name=MODEL, inputs=[tensor])
        answer = await self._stub.ModelInfer(asked, timeout=ANSWER_LIMIT_S)
        return np.array(answer.outputs[0].contents.fp32_contents, dtype=np.float32)


def request(texts: Sequence[str]) -> inference_pb2.InferRequest:
    """A request to the worker."""
    return inference_pb2.InferRequest(
        model=MODEL, payload=payload_pb2.Payload(embed=payload_pb2.Embed(texts=texts, truncate=True))
    )


@contextlib.contextmanager
def worker_process(*arguments: str) -> Iterator[MeshProcess]:
    """A worker of MiniLM with the settings that it has by itself."""
    with tempfile.TemporaryDirectory() as folder, process_group(Path(folder)) as group:
        process = group.worker(MINILM, *arguments, name=MODEL, runtime="onnx")
        process.wait_until_ready()
        yield process


@contextlib.asynccontextmanager
async def connected(target: str) -> AsyncIterator[grpc.aio.Channel]:
    """A connection, closed with the block. Without the mesh's pings, which MLServer takes ill."""
    async with grpc.aio.insecure_channel(target) as channel:
        yield channel


@contextlib.contextmanager
def mlserver_process(threads_outside: int) -> Iterator[tuple[int, str]]:
    """MLServer with adaptive batching on the same model: its process id and gRPC address.

    threads_outside: as in mlserver_runtime.py.
    """
    python = peer_python("mlserver")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ports = _write_settings(folder, threads_outside)
        command = [str(python), "-c", "from mlserver.cli import main; main()", "start", name]
        with (folder / "log").open("wb") as log:
            popen = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)

        def is_ready() -> bool:
            if popen.poll() is not None:
                raise AssertionError(f"MLServer did not start: {(folder / 'log').read_text()[-2000:]}")
            return http_status_of(f"http://127.0.0.1:{ports['http_port']}/v2/health/ready") == 200

        try:
            wait_until(is_ready, "MLServer is ready", START_LIMIT_S)
            yield popen.pid, f"127.0.0.1:{ports['grpc_port']}"
        finally:
            end_process(popen)


async def ask(server: Server, texts: Sequence[str], concurrency: int) -> tuple[float, list[Vector]]:
    """CPU seconds of the server and the vectors, with so many requests under way at any time."""
    vectors: list[Vector] = [np.empty(0, np.float32)] * len(texts)
    waiting = iter(range(len(texts)))

    async def caller() -> None:
        for place in waiting:
            vectors[place] = await server.embed(texts[place])

    before = cpu_seconds(server.pid)
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return cpu_seconds(server.pid) - before, vectors


async def ask_one_by_one(server: Server, texts: Sequence[str]) -> list[float]:
    """Seconds of each request, one after the other."""
    seconds = []
    for text in texts:
        started = time.perf_counter()
        await server.embed(text)
        seconds.append(time.perf_counter() - started)
    return seconds


def _write_settings(folder: Path, threads_outside: int) -> dict[str, int]:
    """MLServer's settings: no process but its own, batches of up to 32 gathered for 5 ms."""
    ports = dict(zip(("http_port", "grpc_port", "metrics_port"), _free_ports(3), strict=True))
    server = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False, **ports}
    model = {
        "name": MODEL,
        "implementation": f"{RUNTIME.stem}.MiniLm",
        "parameters": {"uri": str(MINILM), "extra": {"threads_outside": threads_outside}},
        "max_batch_size": 32,
        "max_batch_time": 0.005,
    }
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(model))
    shutil.copy(RUNTIME, folder)
    return ports


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
