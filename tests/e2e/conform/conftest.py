from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from conformance.subject import ModelNames, Subject
from inference_mesh.config.keys_file import new_key
from mesh_cli.secret_manifests import keys_text
from tests.support.processes import (
    IRIS,
    MINILM,
    TINY_CHAT,
    process_group,
)

EXTRAS: dict[str, dict[str, Any]] = {
    "iris": {"version": "1"},
    "minilm": {"aliases": ["sentences"]},
    "tiny-chat": {},
}
"""What some checks look at: a version, and an alias."""


@dataclasses.dataclass(frozen=True)
class KeyedMesh:
    """The whole mesh on the embedded models, which asks for an API key."""

    target: str
    url: str
    api_key: str

    def subject(self, grpc_target: str = "", url: str = "") -> Subject:
        """It as one to examine, or what stands before it."""
        names = ModelNames(generate="tiny-chat", embed="minilm", tensors="iris")
        return Subject(grpc_target or self.target, url or self.url, self.api_key, models=names)


@pytest.fixture(scope="package")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedMesh]:
    """One mesh for the tests of this folder; they must leave it as they found it."""
    folder = tmp_path_factory.mktemp("mesh")
    plain, key = new_key(scopes=("infer", "admin"))
    (folder / "keys.yaml").write_text(keys_text([key]), encoding="utf-8")
    with process_group(folder) as group:
        workers = {
            "iris": group.worker(IRIS, name="iris", runtime="onnx"),
            "minilm": group.worker(MINILM, name="minilm", runtime="onnx"),
            "tiny-chat": group.worker(TINY_CHAT, name="tiny-chat", runtime="llama"),
        }
        for worker in workers.values():
            worker.wait_until_ready()
        entries = [
            {"name": name, "endpoints": [worker.grpc_target], **EXTRAS[name]}
            for name, worker in workers.items()
        ]
        models = folder / "models.yaml"
        models.write_text(yaml.safe_dump({"version": 1, "models": entries}), encoding="utf-8")
        gateway = group.gateway(models, "--keys", str(folder / "keys.yaml"))
        gateway.wait_until_ready()
        bridge = group.bridge(gateway)
        bridge.wait_until_ready()
        yield KeyedMesh(gateway.grpc_target, bridge.url, plain)
