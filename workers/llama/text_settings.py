"""What an operator may set for a GGUF model of vectors or scores, and the sizes that follow. Pure."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from inference_mesh.errors import ModelNotReadyError
from workers.llama.gguf_check import GgufSummary
from workers.llama.model_task import Pooling, default_pooling, has_score_head, is_encoder, pooling_of
from workers.llama.placement import Placement
from workers.llama.settings import LEFT_FREE, ProbeTerms

DEFAULT_TEXT_TOKENS = 2048
"""The longest text by default: the memory for attention grows with its square."""

LEAST_TEXT_TOKENS = 8

CPU_PACK_TOKENS, GPU_PACK_TOKENS = 64, 2048
"""A batch of short texts grows to so many tokens. CPU: of 1 to 512, 64 was best for a model of 6 layers
and texts of 5 to 60 tokens, 32 at a time. GPU: an estimate, not measured."""

PACK_TEXTS = 64


@dataclasses.dataclass(frozen=True, slots=True)
class LlamaTextSettings:
    """Settings of one engine.

    context_tokens: the longest text; 0 = as the model was trained, at most DEFAULT_TEXT_TOKENS.
    pooling: None = as the file says. threads: 0 = what the process may use. max_queue: requests
    that may wait. pack_tokens: a batch of short texts grows to so many; 0 = as
    the machine likes best.
    """

    path: Path
    name: str
    version: str = ""
    task: Literal["embed", "rerank"] = "embed"
    context_tokens: int = 0
    pooling: Pooling | None = None
    threads: int = 0
    max_queue: int = 256
    pack_tokens: int = 0
    placement: Placement = dataclasses.field(default_factory=Placement)
    probe: ProbeTerms = dataclasses.field(default_factory=ProbeTerms)


def chosen_pooling(settings: LlamaTextSettings, summary: GgufSummary) -> Pooling:
    """How a text's vector is made. Raises ModelNotReadyError if the model cannot do the task so."""
    if settings.task == "rerank":
        if not has_score_head(summary):
            raise ModelNotReadyError(
                f"{settings.path.name} has no score head (cls.weight or cls.output.weight): it cannot rerank"
            )
        return "rank"
    if settings.pooling is not None:
        return settings.pooling
    if pooling_of(summary) == "rank":
        raise ModelNotReadyError(
            f"{settings.path.name} is made to rerank; to embed with it, set pooling to mean, cls or last"
        )
    return default_pooling(summary)


def longest_text(settings: LlamaTextSettings, summary: GgufSummary, memory_bytes: int | None) -> int:
    """Tokens of the longest text, which is the size of the context too.

    Never more than the model was trained on: an encoder would abort the process. memory_bytes: what
    this process may use; None = nobody knows. Raises ModelNotReadyError if the memory does not hold
    what the context needs beside the weights, with both numbers.
    """
    trained = summary.context_length or DEFAULT_TEXT_TOKENS
    tokens = min(settings.context_tokens or DEFAULT_TEXT_TOKENS, trained)
    if tokens < LEAST_TEXT_TOKENS:
        raise ModelNotReadyError(
            f"the longest text has {tokens} tokens; at least {LEAST_TEXT_TOKENS} are needed"
        )
    needed = _context_bytes(tokens, settings, summary)
    left = needed if memory_bytes is None else int(memory_bytes * (1 - LEFT_FREE)) - summary.size_bytes
    if needed > left:
        raise ModelNotReadyError(
            f"texts of {tokens} tokens need about {needed} bytes beside the weights; {max(left, 0)} are left"
        )
    return tokens


def pack_tokens(settings: LlamaTextSettings, max_tokens: int, *, is_on_gpu: bool) -> int:
    """How many tokens the short texts of one batch have together."""
    best = settings.pack_tokens or (GPU_PACK_TOKENS if is_on_gpu else CPU_PACK_TOKENS)
    return max(1, min(best, max_tokens))


def _context_bytes(tokens: int, settings: LlamaTextSettings, summary: GgufSummary) -> int:
    """An upper estimate: the weights of attention, one row of the widest layer a token, the KV cache."""
    heads = summary.of_architecture("attention.head_count")
    most_heads = max(heads) if isinstance(heads, tuple) and heads else heads
    attention = 4 * tokens * tokens * (most_heads if isinstance(most_heads, int) else 1)
    if is_encoder(summary):
        return 2 * attention
    logits = 4 * tokens * summary.vocabulary_size
    cache = tokens * summary.kv_bytes_per_token(settings.placement.cache_value_bytes)
    return 2 * attention + logits + cache
