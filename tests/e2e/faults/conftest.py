"""What the fault tests share: how long they last, and how a mesh of paced workers is started."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from inference_mesh.config.keys_file import new_key
from tests.support.processes import MeshProcess, ProcessGroup


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much of a fault test is run: a short form in `make test`, all of it in `make faults`."""

    is_full: bool

    def of(self, short: float, full: float) -> float:
        """The number that fits."""
        return full if self.is_full else short


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> Scale:
    """As the option --full-faults says."""
    return Scale(bool(request.config.getoption("--full-faults")))


@pytest.fixture
def paced(group: ProcessGroup) -> Paced:
    """Starts meshes of paced workers."""
    return Paced(group)


class Paced:
    """Starts paced workers and gateways in front of them."""

    def __init__(self, group: ProcessGroup) -> None:
        self.group = group

    def worker(self, name: str = "chat", **options: Any) -> MeshProcess:
        """A worker that serves. options: as its flags, e.g. slots=4, service_s=0.05."""
        flags = [part for key, value in options.items() for part in _flag(key, value)]
        worker = self.group.start("tests.fakes.paced_worker", "--name", name, *flags, name=name)
        worker.wait_for_ports()
        return worker

    def workers(self, count: int, name: str = "chat", **options: Any) -> list[MeshProcess]:
        """Several, started side by side."""
        return [self.worker(name, **options) for _ in range(count)]

    def far_worker(self, namespace: str, host: str, **options: Any) -> MeshProcess:
        """A worker on another host: in a network namespace, listening on that address."""
        flags = [part for key, value in options.items() for part in _flag(key, value)]
        worker = self.group.start(
            "tests.fakes.paced_worker",
            *("--name", "chat", "--host", host, *flags),
            name="far",
            prefix=("ip", "netns", "exec", namespace),
        )
        worker.wait_for_ports()
        return worker

    def gateway(self, folder: Path, entries: Sequence[dict[str, Any]], *arguments: str) -> MeshProcess:
        """A gateway of these registry entries, ready."""
        models = write_yaml(folder / "models.yaml", {"version": 1, "models": list(entries)})
        gateway = self.group.gateway(models, *arguments)
        gateway.wait_until_ready()
        return gateway


def entry(workers: Sequence[MeshProcess], name: str = "chat", **fields: Any) -> dict[str, Any]:
    """A registry entry of these replicas."""
    return {"name": name, "task": "generate", "endpoints": [one.grpc_target for one in workers], **fields}


def write_yaml(path: Path, document: object) -> Path:
    """Replace a file in one step."""
    temporary = path.with_suffix(".new")
    temporary.write_text(yaml.safe_dump(document, sort_keys=False))
    temporary.replace(path)
    return path


def write_keys(path: Path, tenants: Sequence[str]) -> dict[str, str]:
    """A keys file with one key for each tenant; the keys' plain texts by tenant."""
    made = {tenant: new_key(tenant=tenant, scopes=("infer", "admin")) for tenant in tenants}
    stored = [key.model_dump(mode="json", exclude_defaults=True) for _, key in made.values()]
    write_yaml(path, {"keys": stored})
    return {tenant: plain for tenant, (plain, _) in made.items()}


def _flag(key: str, value: Any) -> tuple[str, ...]:
    name = f"--{key.replace('_', '-')}"
    return (name,) if value is True else (name, str(value))
