"""Which processes a mesh consists of, and how each is started.

Pure but for asking which ports are free. Does not start anything; the supervisor does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import yaml

from mesh_cli.mesh_file import LocalModel
from mesh_cli.ports import free_port
from mesh_cli.state import Kind, StateFolder

HOST = "127.0.0.1"


@dataclasses.dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One process. arguments: without the ports. problem: why it is not even started."""

    name: str
    kind: Kind
    module: str
    arguments: tuple[str, ...]
    grpc_port: int | None = None
    http_port: int | None = None
    model: str = ""
    problem: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """Every process of a mesh, workers first."""

    models: tuple[LocalModel, ...]
    services: tuple[ServiceSpec, ...]


def plan_mesh(
    models: Sequence[LocalModel],
    folder: StateFolder,
    *,
    grpc_port: int,
    http_port: int,
    grace_s: float,
    keys: Path | None = None,
) -> Plan:
    """The processes for these models. Raises OSError if no port is free."""
    grace = ("--grace-s", f"{grace_s:g}")
    taken = {grpc_port, http_port}

    def port() -> int:
        taken.add(found := free_port(taken))
        return found

    workers = [
        dataclasses.replace(worker_spec(model, replica), grpc_port=port(), http_port=port())
        for model in models
        for replica in range(model.spec.replicas)
    ]
    access = ("--auth", "open") if keys is None else ("--auth", "required", "--keys", str(keys.absolute()))
    gateway = ServiceSpec(
        name="gateway",
        kind="gateway",
        module="gateway",
        arguments=("--models", str(folder.models_file), *access),
        grpc_port=grpc_port,
        http_port=port(),
    )
    bridge = ServiceSpec(
        name="bridge",
        kind="bridge",
        module="rest_bridge",
        arguments=("--gateway", f"{HOST}:{grpc_port}"),
        http_port=http_port,
    )
    services = (*workers, gateway, bridge)
    with_grace = (dataclasses.replace(one, arguments=(*one.arguments, *grace)) for one in services)
    return Plan(tuple(models), tuple(with_grace))


def worker_spec(model: LocalModel, replica: int = 0) -> ServiceSpec:
    """The worker process of a model, on any free ports."""
    spec = model.spec
    options: list[tuple[str, object]] = [
        ("--name", spec.name),
        ("--model", model.path),
        ("--runtime", model.runtime),
        ("--task", spec.task),
        ("--version", spec.version or None),
        ("--slots", spec.slots),
        ("--context", spec.context),
        ("--threads", spec.threads),
    ]
    arguments = tuple(str(part) for flag, value in options if value is not None for part in (flag, value))
    return ServiceSpec(
        name=f"{spec.name}-{replica}",
        kind="worker",
        module="workers",
        arguments=arguments,
        grpc_port=0,
        http_port=0,
        model=spec.name,
        problem=model.problem,
    )


def command_arguments(spec: ServiceSpec, port_file: Path) -> tuple[str, ...]:
    """The whole argument list of a process."""
    ports: list[str] = []
    if spec.grpc_port is not None:
        ports += ["--grpc-port", str(spec.grpc_port)]
    if spec.http_port is not None:
        ports += ["--port" if spec.kind == "bridge" else "--http-port", str(spec.http_port)]
    return (*spec.arguments, *ports, "--port-file", str(port_file))


def registry_text(models: Sequence[LocalModel], services: Sequence[ServiceSpec]) -> str:
    """The gateway's models.yaml: every model with the endpoints of its workers."""
    entries = []
    for model in models:
        spec = model.spec
        workers = [service for service in services if service.kind == "worker" and service.model == spec.name]
        entry: dict[str, object] = {
            "name": spec.name,
            "endpoints": [f"{HOST}:{worker.grpc_port}" for worker in workers],
        }
        optional: dict[str, object] = {
            "task": spec.task,
            "version": spec.version,
            "aliases": list(spec.aliases),
            "timeout_s": spec.timeout_s,
        }
        entries.append(entry | {key: value for key, value in optional.items() if value})
    return "# Written by `mesh up`.\n" + yaml.safe_dump({"version": 1, "models": entries}, sort_keys=False)
