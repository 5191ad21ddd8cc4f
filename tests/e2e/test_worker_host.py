"""The process of a worker host: a stop finishes what runs, and no end leaves a worker behind."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import psutil
import yaml

from inference_mesh.client import MeshClient
from tests.support.llama_engine import END_TOKENS
from tests.support.processes import IRIS, TINY_CHAT, MeshProcess, ProcessGroup, wait_until, write_models_file

END_LIMIT_S = 30.0
TOKENS = 600
NO_END = {str(token): -100 for token in END_TOKENS}


def start_host(group: ProcessGroup, folder: Path) -> MeshProcess:
    """A host of two models, both loaded."""
    models = [
        {
            "name": "tiny-chat",
            "model": str(TINY_CHAT),
            "runtime": "llama",
            "task": "generate",
            "pinned": True,
        },
        {"name": "iris", "model": str(IRIS), "runtime": "onnx", "task": "tensors", "pinned": True},
    ]
    path = folder / "host.yaml"
    path.write_text(yaml.safe_dump({"models": models}))
    host = group.start("workers.host", "--models", str(path), "--grpc-port", "0", "--http-port", "0")
    host.wait_until_ready()
    wait_until(lambda: len(children_of(host)) == 2, "two workers", END_LIMIT_S)
    return host


def children_of(host: MeshProcess) -> list[psutil.Process]:
    """Its workers."""
    return [one for one in psutil.Process(host.pid).children() if one.is_running()]


async def stream_of(target: str, model: str, tokens: int, begun: asyncio.Event) -> int:
    """Tokens of a stream that came to its end. begun: set with its first piece."""
    completion_tokens = 0
    async with MeshClient(target) as client:
        prompt = {"prompt": "Once upon", "max_tokens": tokens, "temperature": 0, "logit_bias": NO_END}
        async for piece in client.stream(model, prompt):
            begun.set()
            completion_tokens = piece.usage.completion_tokens
    return completion_tokens


def test_a_gateway_needs_not_know_that_it_is_a_host(group: ProcessGroup, tmp_path: Path) -> None:
    host = start_host(group, tmp_path)
    models = write_models_file(tmp_path / "models.yaml", {"tiny-chat": [host], "iris": [host]})
    gateway = group.gateway(models)
    gateway.wait_until_ready()

    async def ask() -> str:
        async with MeshClient(gateway.grpc_target) as client:
            features = {"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}
            await client.infer("iris", {"inputs": [features]})
            who = {"messages": [{"role": "user", "content": "Who are you?"}], "temperature": 0}
            return (await client.infer("tiny-chat", who)).output.generate.text

    assert "Tiny" in asyncio.run(ask())


def test_sigterm_lets_a_running_stream_finish_and_leaves_nobody(group: ProcessGroup, tmp_path: Path) -> None:
    host = start_host(group, tmp_path)
    workers = children_of(host)

    async def ask_and_stop() -> int:
        begun = asyncio.Event()
        running = asyncio.ensure_future(stream_of(host.grpc_target, "tiny-chat", TOKENS, begun))
        async with asyncio.timeout(END_LIMIT_S):
            await begun.wait()
        host.signal(signal.SIGTERM)
        return await running

    assert asyncio.run(ask_and_stop()) == TOKENS
    assert host.popen.wait(END_LIMIT_S) == 0
    assert psutil.wait_procs(workers, timeout=END_LIMIT_S)[1] == []


def test_sigkill_of_the_host_ends_its_workers(group: ProcessGroup, tmp_path: Path) -> None:
    host = start_host(group, tmp_path)
    workers = children_of(host)
    host.signal(signal.SIGKILL)
    assert psutil.wait_procs(workers, timeout=END_LIMIT_S)[1] == []
