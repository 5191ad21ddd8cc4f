"""Sound GGUF headers are read; damaged ones are refused with a sentence, before llama.cpp sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference_mesh.errors import ModelNotReadyError
from tests.support.gguf_files import Tensor, gguf_bytes, llama_file, llama_metadata, llama_tensors, vocabulary
from workers.llama.gguf_check import read_gguf


def refused(directory: Path, data: bytes) -> str:
    """The sentence with which a file of these bytes is refused."""
    path = directory / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelNotReadyError) as caught:
        read_gguf(path)
    return caught.value.message


def test_a_sound_file_is_summarised(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(llama_file())
    summary = read_gguf(path)
    assert summary.architecture == "llama"
    assert summary.context_length == 512
    assert summary.vocabulary_size == len(vocabulary())
    assert summary.parameter_count == sum(tensor.values.size for tensor in llama_tensors())
    # One layer, one KV head of 16, keys and values, two bytes each.
    assert summary.kv_bytes_per_token() == 64


def test_heads_may_differ_by_layer(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(llama_file(llama__block_count=2, llama__attention__head_count_kv=[1, 2]))
    assert read_gguf(path).kv_bytes_per_token() == 3 * 64


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.001, 0.01, 0.05, 0.1, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    data = llama_file()
    assert "model.gguf" in refused(tmp_path, data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"llama__block_count": 0}, "block_count"),
        ({"llama__block_count": 100_000}, "block_count"),
        ({"llama__block_count": "many"}, "block_count"),
        ({"llama__embedding_length": 0}, "embedding_length"),
        ({"llama__context_length": ["a"]}, "context_length"),
        ({"llama__attention__head_count_kv": "x"}, "head_count_kv"),
        ({"llama__attention__layer_norm_rms_epsilon": -1.0}, "epsilon"),
        ({"llama__attention__layer_norm_rms_epsilon": float("nan")}, "epsilon"),
        ({"tokenizer__ggml__tokens": ["a", "b", "a"]}, "twice"),
        ({"tokenizer__ggml__tokens": "none"}, "vocabulary"),
        ({"general__alignment": 24}, "alignment"),
        ({"general__architecture": 7}, "architecture"),
    ],
)
def test_metadata_that_would_abort_the_process_is_refused(
    tmp_path: Path, changes: dict[str, object], word: str
) -> None:
    assert word in refused(tmp_path, llama_file(**changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"", b"GGUF", b"hello, this is a text", b"GGUF" + b"\xff" * 100])
def test_what_is_no_gguf_file_is_refused(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path, data)


def test_an_unknown_version_is_refused(tmp_path: Path) -> None:
    assert "version 9" in refused(tmp_path, gguf_bytes(llama_metadata(), llama_tensors(), version=9))


def test_a_tensor_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    tensor = Tensor("same", (4,), np.ones(4))
    assert "twice" in refused(tmp_path, gguf_bytes(llama_metadata(), [tensor, tensor]))


def test_an_absurd_count_is_refused_without_reading_on(tmp_path: Path) -> None:
    header = b"GGUF" + (3).to_bytes(4, "little") + (2**60).to_bytes(8, "little") * 2
    refused(tmp_path, header)


@pytest.mark.parametrize("name", ["missing.gguf", "."])
def test_a_path_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelNotReadyError):
        read_gguf(tmp_path / name)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(at=st.integers(0, 6000), value=st.binary(min_size=1, max_size=8))
def test_any_damage_of_the_header_is_read_or_refused_but_never_crashes(
    tmp_path: Path, at: int, value: bytes
) -> None:
    data = bytearray(llama_file())
    data[at : at + len(value)] = value
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(data))
    try:
        read_gguf(path)
    except ModelNotReadyError as error:
        assert error.message
