"""What an operator may set for a llama.cpp engine, and the sizes that follow from it.

Owns the values and the arithmetic of the KV cache. Pure.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from inference_mesh.errors import ModelNotReadyError
from workers.llama.gguf_check import GgufSummary
from workers.llama.placement import Placement

CELL_STEP = 256
"""llama.cpp rounds the number of cells up to a multiple of this."""

MAX_SEQUENCES = 256
"""llama.cpp's own limit of sequences in one context."""


DEFAULT_CACHE_BYTES = 2 << 30

LEFT_FREE = 0.1
"""Share of the memory that neither weights nor KV cache may take: buffers and Python need it."""


@dataclasses.dataclass(frozen=True, slots=True)
class ProbeTerms:
    """Whether a file is first loaded by a process that may die of it.

    is_on: False = the operator trusts the file. cache_folder: where verdicts are kept; None = the
    user's cache.
    """

    is_on: bool = True
    cache_folder: Path | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class LlamaSettings:
    """Settings of one engine.

    slots: requests at work at a time. context_tokens: prompt and answer together; 0 = what
    the model was trained on, as far as kv_cache_bytes allows. threads: 0 = what the process
    may use. batch_tokens: the most tokens of one step; prefill_chunk: of them prompt tokens
    when others generate. max_queue: waiting requests beyond the slots. kv_cache_bytes: the
    most that the KV cache may take; 0 = 2 GiB, or one context if that is more, as far as the
    memory of the machine allows. prefix_tokens: cells that finished prompts may keep for
    those to come; 0 = as many as one context. placement: CPU or GPU. probe: how the file is tried.
    """

    path: Path
    name: str
    version: str = ""
    slots: int = 8
    context_tokens: int = 0
    threads: int = 0
    batch_tokens: int = 512
    prefill_chunk: int = 128
    max_queue: int = 64
    default_max_tokens: int = 256
    kv_cache_bytes: int = 0
    prefix_tokens: int = 0
    placement: Placement = dataclasses.field(default_factory=Placement)
    probe: ProbeTerms = dataclasses.field(default_factory=ProbeTerms)

    def __post_init__(self) -> None:
        if not 1 <= self.slots <= MAX_SEQUENCES:
            raise ValueError(f"slots is {self.slots}; allowed: 1 to {MAX_SEQUENCES}")
        if self.batch_tokens < 1 or self.prefill_chunk < 1 or self.default_max_tokens < 1:
            raise ValueError("batch_tokens, prefill_chunk and default_max_tokens must be at least 1")


@dataclasses.dataclass(frozen=True, slots=True)
class CacheSize:
    """context_tokens: of one request. cells: of all together."""

    context_tokens: int
    cells: int


def cache_size(settings: LlamaSettings, summary: GgufSummary, memory_bytes: int | None = None) -> CacheSize:
    """How many tokens one request and all requests may hold.

    memory_bytes: what this process may use; None = nobody knows, or the cache lies on a GPU. Never
    more than the model was trained on. Raises ModelNotReadyError if the context that was asked for
    does not fit into kv_cache_bytes, or beside the weights into the memory.
    """
    cell_bytes = max(summary.kv_bytes_per_token(settings.placement.cache_value_bytes), 1)
    trained = summary.context_length or settings.context_tokens or DEFAULT_CACHE_BYTES // cell_bytes
    asked = min(settings.context_tokens, trained)
    budget = _cache_budget(settings, asked * cell_bytes, summary, memory_bytes)
    affordable = budget // cell_bytes // CELL_STEP * CELL_STEP
    context = asked or min(trained, affordable)
    if context > affordable or not affordable:
        raise ModelNotReadyError(
            f"a context of {context} tokens needs {max(context, CELL_STEP) * cell_bytes} bytes of KV cache; "
            f"allowed are {budget}"
            + (
                f": the weights take {summary.size_bytes} of {memory_bytes} bytes of memory"
                if memory_bytes
                else ""
            )
        )
    wanted = -(-settings.slots * context // CELL_STEP) * CELL_STEP
    return CacheSize(context, min(wanted, affordable))


def _cache_budget(
    settings: LlamaSettings, asked_bytes: int, summary: GgufSummary, memory_bytes: int | None
) -> int:
    """Bytes that the KV cache may take. asked_bytes: of one context that was asked for, else 0."""
    cell_step = CELL_STEP * max(summary.kv_bytes_per_token(settings.placement.cache_value_bytes), 1)
    wanted = settings.kv_cache_bytes or max(DEFAULT_CACHE_BYTES, -(-asked_bytes // cell_step) * cell_step)
    if memory_bytes is None:
        return wanted
    left = max(0, int(memory_bytes * (1 - LEFT_FREE)) - summary.size_bytes)
    if settings.kv_cache_bytes > left:
        raise ModelNotReadyError(
            f"kv_cache_bytes is {settings.kv_cache_bytes}; of {memory_bytes} bytes of memory the weights "
            f"leave {left}"
        )
    return min(wanted, left)
