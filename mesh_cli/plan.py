"""Which processes a mesh consists of, and how each is started.

Pure but for asking which ports are free. Does not start anything; the supervisor does.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import yaml

from mesh_cli.mesh_file import LocalModel, registry_entry, resolve
from mesh_cli.mesh_schema import MeshModel
from mesh_cli.ports import free_port
from mesh_cli.state import Kind, StateFolder

HOST = "127.0.0.1"
REDIS_URL = "MESH_REDIS_URL"


@dataclasses.dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One process. arguments: without the ports. problem: why it is not even started.

    version: of a worker, as mesh.yaml names it. environment: variables of this process alone.
    """

    name: str
    kind: Kind
    module: str
    arguments: tuple[str, ...]
    grpc_port: int | None = None
    http_port: int | None = None
    model: str = ""
    version: str = ""
    problem: str | None = None
    environment: tuple[tuple[str, str], ...] = dataclasses.field(default=(), repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """Who may call the gateway, and where it keeps what they have used.

    keys, tenants: their files; neither = everyone on this machine. redis_url: None = in the
    gateway itself; it may have a password, so it stands in no argument list.
    """

    keys: Path | None = None
    tenants: Path | None = None
    redis_url: str | None = dataclasses.field(default=None, repr=False)

    def arguments(self) -> tuple[str, ...]:
        """The gateway's flags."""
        files = (("--keys", self.keys), ("--tenants", self.tenants))
        given = [part for flag, path in files if path is not None for part in (flag, str(path.absolute()))]
        return ("--auth", "required" if given else "open", *given)

    def environment(self) -> tuple[tuple[str, str], ...]:
        """The gateway's variables."""
        return () if self.redis_url is None else ((REDIS_URL, self.redis_url),)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """Every process of a mesh, workers first."""

    models: tuple[MeshModel, ...]
    services: tuple[ServiceSpec, ...]


def plan_mesh(
    models: Sequence[MeshModel],
    base: Path,
    folder: StateFolder,
    *,
    grpc_port: int,
    http_port: int,
    grace_s: float,
    access: Access = Access(),
) -> Plan:
    """The processes for these models. base: where their paths start. Raises OSError if no port is free."""
    grace = ("--grace-s", f"{grace_s:g}")
    taken = {grpc_port, http_port}

    def port() -> int:
        taken.add(found := free_port(taken))
        return found

    workers = [
        dataclasses.replace(worker_spec(model, replica), grpc_port=port(), http_port=port())
        for spec in models
        for model in resolve(spec, base)
        for replica in range(model.spec.replicas)
    ]
    gateway = ServiceSpec(
        name="gateway",
        kind="gateway",
        module="gateway",
        arguments=("--models", str(folder.models_file), *access.arguments()),
        grpc_port=grpc_port,
        http_port=port(),
        environment=access.environment(),
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
        ("--sha256", spec.sha256),
    ]
    arguments = tuple(str(part) for flag, value in options if value is not None for part in (flag, value))
    return ServiceSpec(
        name=f"{spec.name}{f'@{spec.version}' if model.variant else ''}-{replica}",
        kind="worker",
        module="workers",
        arguments=arguments,
        grpc_port=0,
        http_port=0,
        model=spec.name,
        version=spec.version,
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


def registry_text(models: Sequence[MeshModel], services: Sequence[ServiceSpec]) -> str:
    """The gateway's models.yaml: every model with the endpoints of its workers."""
    endpoints: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for one in services:
        if one.kind == "worker":
            endpoints[one.model][one.version].append(f"{HOST}:{one.grpc_port}")
    entries = [registry_entry(model, endpoints[model.name]) for model in models]
    return "# Written by `mesh up`.\n" + yaml.safe_dump({"version": 1, "models": entries}, sort_keys=False)
