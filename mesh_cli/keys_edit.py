"""Changing API keys where they are kept: one writer at a time, and no reader ever sees half of them.

Owns the two places: a keys.yaml, and the Secret of a cluster's gateways.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from inference_mesh.config.keys_file import ApiKey, parse_keys
from mesh_cli.errors import UsageError
from mesh_cli.kubectl import Cluster
from mesh_cli.mesh_file import read_text
from mesh_cli.secret_manifests import GATEWAY_KEYS, keys_in, keys_text, with_keys
from mesh_cli.state import write_atomically


class KeyStore(Protocol):
    """Where API keys are kept."""

    @property
    def option(self) -> str:
        """How `mesh keys` is told of it."""
        ...

    @property
    def reach(self) -> str:
        """When a gateway knows of a change."""
        ...

    def read(self) -> tuple[ApiKey, ...]:
        """The keys. Raises ConfigError or CliError."""
        ...

    def changing(self) -> contextlib.AbstractContextManager[list[ApiKey]]:
        """The keys as a list to change; written when the block ends without an error.

        Raises ConfigError or CliError.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class KeysInFile:
    """The keys of a keys.yaml. A file that is missing has none to change."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def option(self) -> str:
        """How `mesh keys` is told of it."""
        return f"--file {self.path}"

    @property
    def reach(self) -> str:
        """When a gateway knows of a change."""
        return "within seconds"

    def read(self) -> tuple[ApiKey, ...]:
        """The keys. Raises ConfigError if the file cannot be read or is wrong."""
        return parse_keys(read_text(self.path), source=str(self.path))

    @contextlib.contextmanager
    def changing(self) -> Iterator[list[ApiKey]]:
        """The keys as a list to change, alone. Raises ConfigError or UsageError."""
        with _alone_in(self.path.parent):
            keys = list(self.read()) if self.path.exists() else []
            yield keys
            try:
                write_atomically(self.path, keys_text(keys))
            except OSError as error:
                raise UsageError(f"cannot write '{self.path}': {error.strerror}") from None


@dataclasses.dataclass(frozen=True, slots=True)
class KeysInCluster:
    """The keys of the Secret that the gateways of a cluster read; it is made with the first key."""

    cluster: Cluster

    def __str__(self) -> str:
        return str(GATEWAY_KEYS)

    @property
    def option(self) -> str:
        """How `mesh keys` is told of it."""
        return "--kubernetes"

    @property
    def reach(self) -> str:
        """When a gateway knows of a change: the kubelet brings it into the pod, once a minute by default."""
        return "in one to two minutes"

    def read(self) -> tuple[ApiKey, ...]:
        """The keys. Raises ConfigError or FailedError."""
        return keys_in(self._secret())

    @contextlib.contextmanager
    def changing(self) -> Iterator[list[ApiKey]]:
        """The keys as a list to change. Raises FailedError if another changed them meanwhile."""
        before = self._secret()
        keys = list(keys_in(before))
        yield keys
        after = with_keys(before, keys)
        if before is None:
            self.cluster.create(after)
        else:
            self.cluster.replace(after)

    def _secret(self) -> dict[str, object] | None:
        return self.cluster.secret(GATEWAY_KEYS.namespace, GATEWAY_KEYS.name)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: the file itself is replaced, so a lock on it would be another's soon."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"cannot write to '{folder}': {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
