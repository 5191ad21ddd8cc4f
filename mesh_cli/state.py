"""What is known of a running mesh: .mesh/state.json, written by `mesh up`, read by every other command."""

from __future__ import annotations

import enum
import os
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mesh_cli.errors import FailedError
from mesh_cli.process_identity import is_same_process

Kind = Literal["worker", "gateway", "bridge"]


class Status(enum.StrEnum):
    """Where a process is in its life."""

    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    """It ended; the next start waits for its backoff."""
    FAILED = "failed"
    """It ended too often, cannot be started, or runs without its model; nothing more is tried."""
    STOPPING = "stopping"
    STOPPED = "stopped"


class ServiceState(BaseModel):
    """One process of the mesh.

    start_mark: start time in the system's own form; with the pid it is unique. started_at:
    seconds since 1970. ready_after_s: from its start to ready. reason: of the last end.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    kind: Kind
    model: str = ""
    status: Status = Status.STARTING
    pid: int = 0
    start_mark: str | None = None
    grpc_port: int | None = None
    http_port: int | None = None
    started_at: float = 0.0
    ready_after_s: float | None = None
    restarts: int = 0
    reason: str = ""
    log: str = ""

    @property
    def is_settled(self) -> bool:
        """True once its first start has come to an end, good or bad."""
        return self.status in (Status.READY, Status.FAILED)


class MeshState(BaseModel):
    """The whole mesh. target: the gateway, host:port. url: the bridge."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pid: int
    start_mark: str | None
    started_at: float
    config: str
    target: str
    url: str
    services: tuple[ServiceState, ...] = ()

    @property
    def is_running(self) -> bool:
        """True while the supervisor that wrote this lives."""
        return is_same_process(self.pid, self.start_mark)

    @property
    def is_settled(self) -> bool:
        """True once every process is ready or has failed."""
        return bool(self.services) and all(service.is_settled for service in self.services)

    @property
    def can_serve(self) -> bool:
        """True if gateway, bridge and at least one worker are ready."""
        ready = {service.kind for service in self.services if service.status is Status.READY}
        return ready == {"worker", "gateway", "bridge"}


class StateFolder:
    """The folder of one mesh: state, logs, the gateway's registry, port files."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def state_file(self) -> Path:
        """Where the state stands."""
        return self.path / "state.json"

    @property
    def lock_file(self) -> Path:
        """Locked by the supervisor for as long as it lives."""
        return self.path / "lock"

    @property
    def models_file(self) -> Path:
        """The gateway's registry."""
        return self.path / "models.yaml"

    def log_file(self, name: str) -> Path:
        """What a process wrote."""
        return self.path / "logs" / f"{name}.log"

    def port_file(self, name: str) -> Path:
        """Where a process says that it is ready."""
        return self.path / "ports" / f"{name}.json"

    def create(self) -> None:
        """Make the folder and those inside it. Raises FailedError if that is not allowed."""
        try:
            for folder in (self.path, self.path / "logs", self.path / "ports"):
                folder.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise FailedError(
                f"cannot write to the state folder '{self.path}': {error.strerror}; "
                "choose another with --state-dir"
            ) from None

    def write(self, state: MeshState) -> None:
        """Replace the state, atomically."""
        write_atomically(self.state_file, state.model_dump_json(indent=2) + "\n")

    def read(self) -> MeshState | None:
        """The last state that was written; None if there is none that can be read."""
        try:
            return MeshState.model_validate_json(self.state_file.read_bytes())
        except (OSError, ValidationError):
            return None


def write_atomically(path: Path, text: str) -> None:
    """Replace a file so that no reader ever sees half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    Path(temporary).replace(path)
