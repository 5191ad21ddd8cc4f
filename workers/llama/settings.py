"""What an operator may set for a llama.cpp engine, and the sizes that follow from it.

Owns the values and the arithmetic of the KV cache. Pure.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from inference_mesh.errors import ModelNotReadyError
from workers.llama.gguf_check import GgufSummary

CELL_STEP = 256
"""llama.cpp rounds the number of cells up to a multiple of this."""

MAX_SEQUENCES = 256
"""llama.cpp's own limit of sequences in one context."""


@dataclasses.dataclass(frozen=True, slots=True)
class LlamaSettings:
    """Settings of one engine.

    slots: requests at work at a time. context_tokens: prompt and answer together; 0 = what
    the model was trained on, as far as kv_cache_bytes allows. threads: 0 = what the process
    may use. batch_tokens: the most tokens of one step; prefill_chunk: of them prompt tokens
    when others generate. max_queue: waiting requests beyond the slots. kv_cache_bytes: the
    most that the KV cache may take. prefix_tokens: cells that finished prompts may keep for
    those to come; 0 = as many as one context.
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
    kv_cache_bytes: int = 2 << 30
    prefix_tokens: int = 0

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


def cache_size(settings: LlamaSettings, summary: GgufSummary) -> CacheSize:
    """How many tokens one request and all requests may hold.

    Never more than the model was trained on. Raises ModelNotReadyError if the context that
    was asked for does not fit into kv_cache_bytes.
    """
    affordable = settings.kv_cache_bytes // max(summary.kv_bytes_per_token(), 1) // CELL_STEP * CELL_STEP
    trained = summary.context_length or affordable
    context = min(settings.context_tokens or min(trained, affordable), trained)
    if context > affordable or not affordable:
        needed = context * summary.kv_bytes_per_token()
        raise ModelNotReadyError(
            f"a context of {context} tokens needs {needed} bytes of KV cache; "
            f"allowed are {settings.kv_cache_bytes}"
        )
    wanted = -(-settings.slots * context // CELL_STEP) * CELL_STEP
    return CacheSize(context, min(wanted, affordable))
