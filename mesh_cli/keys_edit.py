"""Changing keys.yaml: one writer at a time, and no reader ever sees half a file."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from inference_mesh.config.keys_file import ApiKey, parse_keys
from mesh_cli.errors import UsageError
from mesh_cli.mesh_file import read_text
from mesh_cli.state import write_atomically


def read_keys(file: Path) -> tuple[ApiKey, ...]:
    """The keys of a file. Raises ConfigError, or UsageError if it cannot be read."""
    return parse_keys(read_text(file), source=str(file))


@contextlib.contextmanager
def changing_keys(file: Path) -> Iterator[list[ApiKey]]:
    """The keys of a file as a list to change; written when the block ends without an error.

    A file that is missing has no keys. Raises ConfigError or UsageError.
    """
    with _alone_in(file.parent):
        keys = list(read_keys(file)) if file.exists() else []
        yield keys
        entries = [key.model_dump(mode="json", exclude_defaults=True) for key in keys]
        try:
            write_atomically(file, yaml.safe_dump({"keys": entries}, sort_keys=False))
        except OSError as error:
            raise UsageError(f"cannot write '{file}': {error.strerror}") from None


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
