"""The SHA-256 of a model file: read once, remembered as long as the file is the same.

Owns hashing, its progress in the log, and what "the same" means: size, times of change and
inode. Blocks; runs in a thread.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from inference_mesh import telemetry
from inference_mesh.errors import ModelNotReadyError
from workers.check_cache import CheckCache

log = telemetry.get_logger(__name__)

BLOCK_BYTES = 4 << 20
PROGRESS_S = 10.0
FOLDER_MODEL = "model.onnx"


def file_digest(path: Path, cache: CheckCache) -> str:
    """Hexadecimal SHA-256 of a file. Raises ModelNotReadyError if it cannot be read."""
    try:
        status = path.stat()
        # The time of the last change of the inode cannot be set by whoever writes the file.
        key = f"digest-{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"
        known = cache.get(key)
        if known is not None:
            return known
        digest = _hashed(path, status.st_size)
    except OSError as error:
        raise ModelNotReadyError(f"the model file {path.name} cannot be read: {error.strerror}") from error
    cache.put(key, digest)
    return digest


def check_digest(model: Path, expected: str, cache: CheckCache) -> None:
    """Raises ModelNotReadyError unless the model's file has the digest that the operator gave.

    model: a file, or a folder with model.onnx. expected: 64 hexadecimal digits.
    """
    path = model / FOLDER_MODEL if model.is_dir() else model
    found = file_digest(path, cache)
    if found != expected.lower():
        raise ModelNotReadyError(f"sha256 of {path.name} is {found}; sha256 was set to {expected.lower()}")


def _hashed(path: Path, size_bytes: int) -> str:
    digest = hashlib.sha256()
    started = told = time.monotonic()
    done = 0
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            done += len(block)
            now = time.monotonic()
            if now - told >= PROGRESS_S:
                told = now
                log.info("hashing", file=path.name, bytes=done, of_bytes=size_bytes)
    if told > started:
        log.info("hashed", file=path.name, bytes=done, seconds=round(time.monotonic() - started, 1))
    return digest.hexdigest()
