"""What a GGUF model is for, as its header says. Pure.

Owns the rules: llama.cpp itself would embed with a model that has no score head, and generate
with an encoder, without a word.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from workers.llama.gguf_check import GgufSummary

LlamaTask: TypeAlias = Literal["generate", "embed", "rerank"]
Pooling: TypeAlias = Literal["mean", "cls", "last", "rank"]

POOLINGS: dict[Pooling, int] = {"mean": 1, "cls": 2, "last": 3, "rank": 4}
"""llama.cpp's number of each pooling, which is the GGUF key's too; 0 = none."""

SCORE_TENSORS = frozenset({"cls.weight", "cls.output.weight"})

ENCODERS = frozenset({
    "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3",
    "eurobert", "gemma-embedding",
})  # fmt: skip
"""Architectures that see a whole text at once."""


def has_score_head(summary: GgufSummary) -> bool:
    """True if the file has the tensors that make a score of a text's vector."""
    return bool(SCORE_TENSORS & summary.tensor_names)


def is_encoder(summary: GgufSummary) -> bool:
    """True if the model sees a whole text at once, and so can neither generate nor keep a KV cache."""
    return summary.architecture in ENCODERS


def pooling_of(summary: GgufSummary) -> Pooling | None:
    """How the file says that the vectors of tokens become the text's; None if it does not."""
    number = summary.of_architecture("pooling_type")
    return next((name for name, known in POOLINGS.items() if known == number), None)


def task_of(summary: GgufSummary) -> LlamaTask:
    """What the model does: rerank with a score head, embed if made for it, else generate."""
    pooling = pooling_of(summary)
    if has_score_head(summary) and (is_encoder(summary) or pooling == "rank"):
        return "rerank"
    is_for_vectors = is_encoder(summary) or pooling is not None
    return "embed" if is_for_vectors or summary.of_architecture("attention.causal") is False else "generate"


def default_pooling(summary: GgufSummary) -> Pooling:
    """The pooling of an embedding: the file's, else mean for encoders and last for decoders."""
    stated = pooling_of(summary)
    if stated is not None and stated != "rank":
        return stated
    return "mean" if is_encoder(summary) else "last"
