"""The worker as a real process: start, port file, bad settings, bad model, stop by signal."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference_mesh import json_payload
from inference_mesh.channels import open_channel
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2
from tests.support.processes import (
    IRIS,
    REPOSITORY,
    TINY_CHAT,
    ProcessGroup,
    http_status_of,
    http_text_of,
    process_group,
    wait_until,
)
from workers.llama.native import has_gpu

ANSWER_TOKENS = 1500
NEVER_ENDING = {"0": -100, "1": -100, "2": -100}
"""Keeps tiny-chat from its control tokens, so that an answer is as long as it is asked to be."""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[ProcessGroup]:
    with process_group(tmp_path) as group:
        yield group


async def test_sigterm_finishes_a_running_stream_and_then_the_process_ends_well(
    processes: ProcessGroup,
) -> None:
    worker = processes.worker(TINY_CHAT, name="tiny-chat", runtime="llama")
    await asyncio.to_thread(worker.wait_until_ready)
    async with open_channel(worker.grpc_target) as channel:
        stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)
        stream = stub.InferStream(_long_request()).__aiter__()
        await anext(stream)
        worker.signal(signal.SIGTERM)
        await asyncio.to_thread(
            wait_until, lambda: http_status_of(f"{worker.url}/readyz") != 200, "readiness is off", 5.0
        )
        pieces = [piece async for piece in stream]
    assert pieces[-1].usage.completion_tokens == ANSWER_TOKENS
    assert pieces[-1].output.generate.finish_reason == payload_pb2.FINISH_REASON_LENGTH
    assert await asyncio.to_thread(worker.popen.wait, 10) == 0


async def test_sigterm_ends_an_idle_worker_at_once(processes: ProcessGroup) -> None:
    worker = processes.worker(IRIS, name="iris", runtime="onnx")
    await asyncio.to_thread(worker.wait_until_ready)
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.popen.wait, 10) == 0
    assert time.monotonic() - began < 5


async def test_the_port_file_says_when_the_model_is_ready(processes: ProcessGroup) -> None:
    worker = processes.worker(IRIS, name="iris", runtime="onnx")
    await asyncio.to_thread(worker.wait_until_ready)
    await asyncio.to_thread(wait_until, lambda: json.loads(worker.port_file.read_text())["ready"], "ready")
    assert json.loads(worker.port_file.read_text()) == {
        "grpc": worker.grpc,
        "http": worker.http,
        "pid": worker.pid,
        "ready": True,
    }


async def test_a_worker_without_its_model_stays_up_and_says_why(
    processes: ProcessGroup, tmp_path: Path
) -> None:
    worker = processes.worker(tmp_path / "absent.onnx", name="gone", runtime="onnx")
    await asyncio.to_thread(worker.wait_for_ports)
    await asyncio.to_thread(wait_until, lambda: "model not loaded" in worker.log_text(), "it was tried")
    assert http_status_of(f"{worker.url}/healthz") == 200
    assert http_status_of(f"{worker.url}/readyz") == 503
    assert "absent.onnx" in http_text_of(f"{worker.url}/readyz")
    assert json.loads(worker.port_file.read_text())["ready"] is False
    assert worker.popen.poll() is None


@pytest.mark.parametrize(
    ("path", "file", "runtime"),
    [(IRIS, "model.onnx", "onnx"), (TINY_CHAT, "", "llama")],
    ids=["onnx", "llama"],
)
async def test_only_the_file_with_the_digest_that_was_set_is_served(
    processes: ProcessGroup, path: Path, file: str, runtime: str
) -> None:
    digest = hashlib.sha256((path / file if file else path).read_bytes()).hexdigest()
    right = processes.worker(path, "--sha256", digest, name="right", runtime=runtime)
    wrong = processes.worker(path, "--sha256", "0" * 64, name="wrong", runtime=runtime)
    await asyncio.to_thread(right.wait_until_ready)
    await asyncio.to_thread(wrong.wait_for_ports)
    await asyncio.to_thread(wait_until, lambda: "model not loaded" in wrong.log_text(), "it was checked")
    assert http_status_of(f"{wrong.url}/readyz") == 503
    assert digest in http_text_of(f"{wrong.url}/readyz")


async def test_layers_for_a_gpu_that_is_not_there_are_refused_with_a_reason(processes: ProcessGroup) -> None:
    if has_gpu():
        pytest.skip("there is a GPU")
    worker = processes.worker(TINY_CHAT, "--gpu-layers", "20", name="gpu", runtime="llama")
    await asyncio.to_thread(worker.wait_for_ports)
    await asyncio.to_thread(wait_until, lambda: "model not loaded" in worker.log_text(), "it was tried")
    assert "gpu_layers is 20" in http_text_of(f"{worker.url}/readyz")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [((), None), (("--openmp-wait", "active"), "active"), (("--openmp-wait", "passive"), "passive")],
    ids=["what the environment says", "active", "passive"],
)
async def test_how_threads_wait_stands_in_the_environment_before_llama_cpp_is_loaded(
    processes: ProcessGroup, flags: tuple[str, ...], expected: str | None
) -> None:
    """libgomp tells what it read, once, when it is loaded."""
    environment = {**os.environ, "OMP_DISPLAY_ENV": "true"}
    worker = processes.start(
        "workers",
        *("--model", str(TINY_CHAT), "--name", "tiny", "--runtime", "llama", *flags),
        *("--grpc-port", "0", "--http-port", "0"),
        environment=environment,
    )
    await asyncio.to_thread(worker.wait_until_ready)
    # The support code starts every process with OMP_WAIT_POLICY=passive.
    assert f"OMP_WAIT_POLICY = '{(expected or 'passive').upper()}'" in worker.log_text()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "model"),
        (["--model", "x", "--name", "a b", "--runtime", "onnx"], "name"),
        (["--model", "x", "--name", "a", "--runtime", "torch"], "runtime"),
        (["--model", "x", "--name", "a", "--runtime", "llama", "--slots", "0"], "slots"),
        (["--model", "x", "--name", "a", "--runtime", "llama", "--task", "classify"], "task"),
        (["--model", "x", "--name", "a", "--runtime", "llama", "--openmp-wait", "maybe"], "openmp_wait"),
        (["--model", "x", "--name", "a", "--runtime", "llama", "--sha256", "abc"], "sha256"),
        (["--model", "x", "--name", "a", "--runtime", "llama", "--tensor-split", "1,."], "tensor_split"),
        (["--model", "x", "--name", "a", "--runtime", "llama", "--kv-cache-type", "q8_0"], "flash_attention"),
    ],
    ids=[
        "nothing",
        "bad name",
        "bad runtime",
        "out of range",
        "wrong task",
        "unknown waiting",
        "no digest",
        "no shares",
        "cache that needs flash attention",
    ],
)
def test_a_wrong_setting_ends_the_start_with_a_sentence_that_names_it(
    flags: list[str], expected: str
) -> None:
    command = [sys.executable, "-m", "workers", *flags]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert expected in ended.stderr
    assert "Traceback" not in ended.stderr


def _long_request() -> inference_pb2.InferStreamRequest:
    """A stream of exactly ANSWER_TOKENS tokens: the end of text is forbidden."""
    payload = json_payload.payload_from_json(
        payload_pb2.TASK_GENERATE,
        {
            "prompt": "Once upon a time",
            "temperature": 0,
            "max_tokens": ANSWER_TOKENS,
            "logit_bias": NEVER_ENDING,
        },
    )
    return inference_pb2.InferStreamRequest(model="tiny-chat", payload=payload)
