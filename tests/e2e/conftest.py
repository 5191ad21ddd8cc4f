from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import canaries
from tests.support.processes import (
    IRIS,
    MINILM,
    TINY_CHAT,
    MeshProcess,
    ProcessGroup,
    process_group,
    write_models_file,
)
from tests.support.span_receiver import span_receiver


@dataclasses.dataclass
class RunningMesh:
    """The whole mesh on the embedded models: a gateway, a bridge and one worker a model."""

    group: ProcessGroup
    workers: dict[str, MeshProcess]
    gateway: MeshProcess
    bridge: MeshProcess
    models_file: Path


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """One mesh for a module's tests; they must leave it as they found it."""
    folder = tmp_path_factory.mktemp("mesh")
    with span_receiver() as spans:
        with process_group(folder) as group:
            yield start_mesh(group, folder, *spans.arguments)
        canaries.check([("spans", spans.text())])
        assert spans.kept


@pytest.fixture
def group(tmp_path: Path) -> Iterator[ProcessGroup]:
    """Processes of one test alone."""
    with process_group(tmp_path) as started:
        yield started


def start_mesh(group: ProcessGroup, folder: Path, *arguments: str) -> RunningMesh:
    """Start everything and wait until it serves. arguments: of every process."""
    workers = {
        "iris": group.worker(IRIS, *arguments, name="iris", runtime="onnx"),
        "minilm": group.worker(MINILM, *arguments, name="minilm", runtime="onnx"),
        "tiny-chat": group.worker(TINY_CHAT, *arguments, name="tiny-chat", runtime="llama"),
    }
    for worker in workers.values():
        worker.wait_until_ready()
    models_file = write_models_file(
        folder / "models.yaml", {name: [worker] for name, worker in workers.items()}
    )
    gateway = group.gateway(models_file, *arguments)
    gateway.wait_until_ready()
    bridge = group.bridge(gateway, *arguments)
    bridge.wait_until_ready()
    return RunningMesh(group, workers, gateway, bridge, models_file)
