"""How many tokens fit: trained context, what is asked for, and the memory allowed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from inference_mesh.errors import ModelNotReadyError
from workers.llama.gguf_check import GgufSummary
from workers.llama.placement import Placement
from workers.llama.settings import CacheSize, LlamaSettings, cache_size

SUMMARY = GgufSummary(
    {
        "general.architecture": "llama",
        "llama.block_count": 4,
        "llama.context_length": 4096,
        "llama.embedding_length": 256,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
    },
    1000,
    1_000_000,
    4_000_000,
)
BYTES_PER_TOKEN = 4 * 2 * 128 * 2


def size(**settings: Any) -> CacheSize:
    """The size for these settings."""
    return cache_size(LlamaSettings(Path("model.gguf"), "model", **settings), SUMMARY)


def test_a_token_takes_keys_and_values_of_every_layer() -> None:
    assert SUMMARY.kv_bytes_per_token() == BYTES_PER_TOKEN


def test_every_slot_gets_a_whole_context_by_default() -> None:
    assert size(slots=4) == CacheSize(4096, 4 * 4096)


def test_the_context_is_never_longer_than_trained() -> None:
    assert size(slots=1, context_tokens=100_000) == CacheSize(4096, 4096)


def test_cells_are_a_multiple_of_256() -> None:
    assert size(slots=3, context_tokens=100) == CacheSize(100, 512)


def test_the_memory_limit_shrinks_the_cells_first_and_then_an_unasked_context() -> None:
    assert size(slots=4, kv_cache_bytes=8192 * BYTES_PER_TOKEN) == CacheSize(4096, 8192)
    assert size(slots=4, kv_cache_bytes=1024 * BYTES_PER_TOKEN) == CacheSize(1024, 1024)


def test_a_context_that_was_asked_for_and_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelNotReadyError):
        size(context_tokens=4096, kv_cache_bytes=1024 * BYTES_PER_TOKEN)
    with pytest.raises(ModelNotReadyError):
        size(kv_cache_bytes=1)


@pytest.mark.parametrize("field", ["slots", "batch_tokens", "prefill_chunk", "default_max_tokens"])
def test_sizes_below_one_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        size(**{field: 0})


def test_a_smaller_type_of_the_cache_makes_room_for_more_tokens() -> None:
    assert SUMMARY.kv_bytes_per_token(Placement(cache_type="q8_0").cache_value_bytes) == 1088
    small = Placement(cache_type="q8_0")
    assert size(slots=4, kv_cache_bytes=4096 * 1088, placement=small) == CacheSize(4096, 4096)


def test_the_cache_takes_what_weights_and_machine_leave() -> None:
    memory = 4_000_000 + 1024 * BYTES_PER_TOKEN
    found = cache_size(LlamaSettings(Path("m"), "m", slots=4), SUMMARY, int(memory / 0.9) + 1)
    assert found == CacheSize(1024, 1024)


@pytest.mark.parametrize(
    "settings",
    [{"context_tokens": 4096}, {"kv_cache_bytes": 4096 * BYTES_PER_TOKEN}],
    ids=["context", "bytes"],
)
def test_what_was_asked_for_beyond_the_memory_is_refused_with_both_numbers(settings: dict[str, Any]) -> None:
    with pytest.raises(ModelNotReadyError, match=str(4096 * BYTES_PER_TOKEN)):
        cache_size(LlamaSettings(Path("m"), "m", **settings), SUMMARY, 8_000_000)


def test_an_absurd_context_is_refused_before_llama_cpp_tries_to_allocate_it() -> None:
    huge = dataclasses.replace(SUMMARY, metadata={**SUMMARY.metadata, "llama.context_length": 2**31 - 1})
    asked = LlamaSettings(Path("m"), "m", context_tokens=2**31 - 1)
    with pytest.raises(ModelNotReadyError):
        cache_size(asked, huge, 24 << 30)


def test_a_long_context_that_fits_the_memory_may_be_larger_than_the_default_of_the_cache() -> None:
    huge = dataclasses.replace(SUMMARY, metadata={**SUMMARY.metadata, "llama.context_length": 2**20})
    asked = LlamaSettings(Path("m"), "m", slots=4, context_tokens=2**20)
    assert cache_size(asked, huge, 24 << 30) == CacheSize(2**20, 2**20)
