"""Files that would end llama.cpp's process end a probe, and the worker lives on and says why."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from inference_mesh.channels import open_channel
from inference_mesh.errors import MeshError, ModelNotReadyError
from tests.support.gguf_files import llama_file
from tests.support.hostile_gguf import hostile_files, hostile_text_models
from tests.support.llama_engine import ask, generate, running
from tests.support.llama_texts import answer, embed, rerank, running_texts
from tests.support.processes import (
    ProcessGroup,
    http_status_of,
    http_text_of,
    process_group,
    wait_until,
)
from workers.llama.gguf_check import read_gguf
from workers.llama.model_task import task_of
from workers.llama.probe import try_file
from workers.llama.settings import ProbeTerms

ABORTING = llama_file(llama__expert_count=3)
"""Passes the check of its header; llama.cpp aborts when it reads the number of experts."""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[ProcessGroup]:
    with process_group(tmp_path) as group:
        yield group


def written(folder: Path, data: bytes, name: str = "model.gguf") -> Path:
    """A file of these bytes."""
    (folder / name).write_bytes(data)
    return folder / name


def tried(path: Path, cache: Path) -> bool:
    """Whether the file was found sound; as a worker does it."""
    summary = read_gguf(path)
    return try_file(path, task_of(summary), summary, ProbeTerms(cache_folder=cache))


async def test_a_worker_whose_file_aborts_llama_cpp_lives_and_says_why(
    processes: ProcessGroup, tmp_path: Path
) -> None:
    worker = processes.worker(written(tmp_path, ABORTING), name="bad", runtime="llama")
    await asyncio.to_thread(worker.wait_for_ports)
    await asyncio.to_thread(wait_until, lambda: "model not loaded" in worker.log_text(), "it was tried", 60.0)
    assert http_status_of(f"{worker.url}/healthz") == 200
    assert http_status_of(f"{worker.url}/readyz") == 503
    assert "aborted while loading" in http_text_of(f"{worker.url}/readyz")
    async with open_channel(worker.grpc_target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(service="bad"))
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert worker.popen.poll() is None


async def test_a_probe_ends_with_its_worker(processes: ProcessGroup, tmp_path: Path) -> None:
    path = written(tmp_path, llama_file(llama__context_length=511), "orphan.gguf")
    flags = ("--check-cache", str(tmp_path / "cache"))
    worker = processes.worker(path, *flags, name="killed", runtime="llama")
    await asyncio.to_thread(wait_until, lambda: bool(probes_of(path)), "it is being tried", 60.0)
    worker.popen.kill()
    worker.popen.wait()
    await asyncio.to_thread(wait_until, lambda: not probes_of(path), "the probe has ended", 5.0)


def probes_of(path: Path) -> list[int]:
    """The processes that try a file."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        arguments = process.info["cmdline"] or []
        if "workers.llama.probe_child" in arguments and str(path) in arguments:
            found.append(process.pid)
    return found


def test_the_reason_is_what_llama_cpp_said_without_the_paths_of_its_build(tmp_path: Path) -> None:
    with pytest.raises(ModelNotReadyError) as refused:
        tried(written(tmp_path, ABORTING), tmp_path / "cache")
    assert "GGML_ASSERT" in refused.value.message
    assert "/" not in refused.value.message.partition("GGML_ASSERT")[0]


def test_a_weight_that_is_no_number_is_found(tmp_path: Path) -> None:
    data = bytearray(llama_file())
    data[-4:] = b"\x00\x00\xc0\x7f"
    with pytest.raises(ModelNotReadyError, match="cannot load"):
        tried(written(tmp_path, bytes(data)), tmp_path / "cache")


@pytest.mark.parametrize("verdict", ["sound", "llama.cpp aborted while loading: as before"])
def test_a_file_is_tried_once(tmp_path: Path, verdict: str) -> None:
    path, cache = written(tmp_path, llama_file()), tmp_path / "cache"
    assert tried(path, cache)
    (kept,) = cache.glob("verdict-*")
    kept.write_text(f"{verdict}\n")  # what the second start goes by
    if verdict == "sound":
        assert tried(path, cache)
    else:
        with pytest.raises(ModelNotReadyError, match="as before"):
            tried(path, cache)


def test_another_file_in_the_same_place_is_tried_again(tmp_path: Path) -> None:
    path, cache = written(tmp_path, llama_file()), tmp_path / "cache"
    assert tried(path, cache)
    written(tmp_path, ABORTING)
    with pytest.raises(ModelNotReadyError):
        tried(path, cache)


def test_without_a_place_for_verdicts_every_start_tries(tmp_path: Path) -> None:
    path, cache = written(tmp_path, llama_file()), Path(os.devnull) / "cache"
    assert tried(path, cache)
    assert tried(path, cache)


async def test_an_operator_may_trust_a_file(tmp_path: Path) -> None:
    async with running(written(tmp_path, llama_file()), probe=ProbeTerms(is_on=False)) as engine:
        assert (await ask(engine, generate("Hello", max_tokens=2))).usage.completion_tokens <= 2


async def test_damaged_files_are_refused_or_served_and_this_process_survives(tmp_path: Path) -> None:
    """A part of the corpus; `test_the_whole_corpus…` has all of it."""
    files = list(hostile_files(flips=6, cuts=3))
    chosen = [
        (name, data)
        for name, data in files
        if name.startswith(("duplicate", "no layer", "layers", "llama.expert_used", "cut", "bit", "few"))
    ]
    texts = hostile_text_models(flips=0)
    chosen += [(name, data) for name, data in texts if "seperator" in name or "tokenizer.ggml.model" in name]
    outcomes = await fates(tmp_path, chosen)
    print(dict(outcomes))
    assert outcomes["aborted in the probe"] >= 5
    assert outcomes["refused by the header"] >= 5
    assert sum(outcomes.values()) == len(chosen)


@pytest.mark.fuzz
@pytest.mark.faults
@pytest.mark.timeout(1800)
async def test_the_whole_corpus_ends_no_worker(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("--full-faults"):
        pytest.skip("takes ten minutes: --full-faults")
    files = [*hostile_files(), *hostile_text_models()]
    outcomes = await fates(tmp_path, files)
    print(dict(outcomes))
    assert sum(outcomes.values()) == len(files)


async def fates(folder: Path, files: Sequence[tuple[str, bytes]]) -> collections.Counter[str]:
    """What became of each file; those that are served were asked for an answer in this process."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        loop = asyncio.get_running_loop()
        jobs = [
            loop.run_in_executor(pool, fate, written(folder, data, f"{number}.gguf"), folder / "cache")
            for number, (_, data) in enumerate(files)
        ]
        found = await asyncio.gather(*jobs)
    for number, outcome in enumerate(found):
        if outcome == "served":
            try:
                async with asyncio.timeout(60):
                    await serve(folder / f"{number}.gguf", ProbeTerms(cache_folder=folder / "cache"))
            except MeshError as error:
                assert error.message
    return collections.Counter(found)


async def serve(path: Path, terms: ProbeTerms) -> None:
    """Load a file in this process and ask for an answer. Raises MeshError."""
    task = task_of(read_gguf(path))
    if task == "generate":
        async with running(path, probe=terms, slots=2) as generating:
            await ask(generating, generate("é", max_tokens=2))
        return
    async with running_texts(path, probe=terms, task=task) as engine:
        for text in ("é word1", "x" * 3000):
            payload = embed([text] * 3, truncate=True)
            pair = rerank("word1", [text] * 3, truncate=True)
            await answer(engine, payload if task == "embed" else pair)


def fate(path: Path, cache: Path) -> str:
    """How a worker's checks end for a file."""
    try:
        summary = read_gguf(path)
    except ModelNotReadyError:
        return "refused by the header"
    try:
        try_file(path, task_of(summary), summary, ProbeTerms(cache_folder=cache))
    except ModelNotReadyError as error:
        return "aborted in the probe" if "aborted" in error.message else "refused by the probe"
    return "served"
