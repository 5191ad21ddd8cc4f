"""A model file is the one that the operator named, and is hashed once as long as it stays the same."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from inference_mesh.errors import ModelNotReadyError
from workers.check_cache import CheckCache
from workers.file_digest import check_digest, file_digest

CONTENT = b"weights" * 1_000_000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> CheckCache:
    return CheckCache(tmp_path / "cache")


def digest_of(content: bytes) -> str:
    """Its SHA-256."""
    return hashlib.sha256(content).hexdigest()


def test_the_digest_is_sha_256(model: Path, cache: CheckCache) -> None:
    assert file_digest(model, cache) == digest_of(CONTENT)


def test_a_file_that_stayed_the_same_is_not_read_again(
    tmp_path: Path, model: Path, cache: CheckCache
) -> None:
    file_digest(model, cache)
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_text("remembered\n")
    assert file_digest(model, cache) == "remembered"


def test_a_file_that_changed_is_read_again_even_if_its_time_was_set_back(
    model: Path, cache: CheckCache
) -> None:
    before = model.stat()
    file_digest(model, cache)
    model.write_bytes(b"W" + CONTENT[1:])
    os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file_digest(model, cache) == digest_of(b"W" + CONTENT[1:])


def test_a_file_with_another_digest_is_refused_with_both(model: Path, cache: CheckCache) -> None:
    check_digest(model, digest_of(CONTENT).upper(), cache)
    with pytest.raises(ModelNotReadyError, match=digest_of(CONTENT)) as refused:
        check_digest(model, "0" * 64, cache)
    assert "0" * 64 in refused.value.message


def test_of_a_folder_the_graph_is_meant(tmp_path: Path, cache: CheckCache) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    check_digest(tmp_path, digest_of(b"graph"), cache)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path, cache: CheckCache) -> None:
    with pytest.raises(ModelNotReadyError, match=r"gone\.gguf"):
        check_digest(tmp_path / "gone.gguf", "0" * 64, cache)
