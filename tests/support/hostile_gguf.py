"""GGUF files that are damaged, or made to harm: each with a name, from one sound model.

Owns the corpus. What a worker does with it is the tests' to say.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.support.bert_files import TinyBert
from tests.support.gguf_files import Value, gguf_bytes, llama_file, llama_metadata, llama_tensors, vocabulary

_COUNTS = (0, 1, 3, 2**16, 2**31 - 1, 2**32 - 1)
_NUMBERS = (
    "llama.block_count", "llama.context_length", "llama.embedding_length", "llama.feed_forward_length",
    "llama.attention.head_count", "llama.attention.head_count_kv", "llama.rope.dimension_count",
    "llama.attention.key_length", "llama.attention.value_length", "llama.vocab_size", "llama.expert_count",
    "llama.expert_used_count", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.padding_token_id", "general.alignment", "general.file_type",
    "llama.pooling_type", "llama.attention.sliding_window",
)  # fmt: skip
_TYPED: tuple[tuple[str, Value], ...] = (
    ("llama.attention.layer_norm_rms_epsilon", float("nan")),
    ("llama.attention.layer_norm_rms_epsilon", -1.0),
    ("llama.rope.freq_base", 0.0),
    ("llama.rope.scaling.type", "yarn"),
    ("llama.rope.scaling.factor", 0.0),
    ("tokenizer.ggml.model", "llama"),
    ("tokenizer.ggml.model", "bert"),
    ("tokenizer.ggml.model", "t5"),
    ("tokenizer.ggml.model", "rwkv"),
    ("tokenizer.ggml.model", "none"),
    ("tokenizer.ggml.pre", "unheard-of"),
    ("tokenizer.ggml.merges", ["no-space"]),
    ("tokenizer.ggml.merges", ["a b"] * 2),
    ("tokenizer.ggml.token_type", [1]),
    ("tokenizer.ggml.token_type", [99] * 260),
    ("tokenizer.ggml.scores", [1]),
    ("tokenizer.ggml.precompiled_charsmap", "x"),
    ("tokenizer.chat_template", "{% for"),
    ("general.architecture", "bert"),
    ("general.architecture", "mamba"),
    ("general.architecture", "unheard-of"),
    ("llama.rope.dimension_sections", [1, 2]),
    ("llama.attention.causal", False),
    ("split.count", 3),
)

_TEXT_NUMBERS = (
    "bert.pooling_type", "bert.context_length", "bert.attention.head_count", "bert.block_count",
    "tokenizer.ggml.token_type_count", "tokenizer.ggml.cls_token_id", "tokenizer.ggml.seperator_token_id",
    "tokenizer.ggml.unknown_token_id",
)  # fmt: skip
_TEXT_TYPED: tuple[tuple[str, Value], ...] = (
    ("tokenizer.ggml.model", "llama"),
    ("tokenizer.ggml.model", "t5"),
    ("tokenizer.ggml.model", "gpt2"),
    ("bert.attention.causal", True),
    ("bert.attention.layer_norm_epsilon", 0.0),
    ("bert.classifier.output_labels", ["yes", "no"]),
    ("tokenizer.chat_template.rerank", "{query}{document}"),
    ("general.architecture", "nomic-bert"),
    ("general.architecture", "modern-bert"),
)


def hostile_files(seed: int = 0, flips: int = 200, cuts: int = 40) -> Iterator[tuple[str, bytes]]:
    """Each damaged file and what is wrong with it."""
    yield "duplicate tokens", llama_file(tokenizer__ggml__tokens=["same", "same", *vocabulary()[2:]])
    yield "no tokens", llama_file(tokenizer__ggml__tokens=[""])
    yield "few tokens", llama_file(tokenizer__ggml__tokens=vocabulary()[:50])
    yield "no layer at all", llama_file(llama__block_count=0)
    yield "layers without end", llama_file(llama__block_count=100_000)
    for name in _NUMBERS:
        for value in _COUNTS:
            yield f"{name} = {value}", llama_file(**{name.replace(".", "__"): value})
        yield f"{name} is a text", llama_file(**{name.replace(".", "__"): "many"})
    for name, typed in _TYPED:
        yield f"{name} = {str(typed)[:20]}", llama_file(**{name.replace(".", "__"): typed})
    yield from _without_parts()
    yield from _cut_and_flipped(random.Random(seed), flips, cuts)


def hostile_text_models(seed: int = 0, flips: int = 100) -> Iterator[tuple[str, bytes]]:
    """The same of models for vectors and scores."""
    for name in _TEXT_NUMBERS:
        for value in _COUNTS:
            yield f"{name} = {value}", TinyBert(score_head=True, **{name.replace(".", "__"): value}).file()
    for name, typed in _TEXT_TYPED:
        changed = {name.replace(".", "__"): typed}
        yield f"{name} = {str(typed)[:20]}", TinyBert(0, score_head=False, **changed).file()
    for missing in TinyBert(score_head=True).tensors:
        model = TinyBert(score_head=True)
        del model.tensors[missing]
        yield f"without {missing}", model.file()
    dice = random.Random(seed)
    sound = TinyBert(score_head=True).file()
    for _ in range(flips):
        flipped = bytearray(sound)
        flipped[at := dice.randrange(6000)] ^= 1 << dice.randrange(8)
        yield f"bit flipped at {at}", bytes(flipped)


def _without_parts() -> Iterator[tuple[str, bytes]]:
    metadata, tensors = llama_metadata(), llama_tensors()
    for name in metadata:
        rest = {key: value for key, value in metadata.items() if key != name}
        yield f"without {name}", gguf_bytes(rest, tensors)
    for tensor in tensors:
        yield f"without {tensor.name}", gguf_bytes(metadata, [one for one in tensors if one is not tensor])


def _cut_and_flipped(dice: random.Random, flips: int, cuts: int) -> Iterator[tuple[str, bytes]]:
    sound = llama_file()
    for at in sorted(dice.randrange(len(sound)) for _ in range(cuts)):
        yield f"cut at {at}", sound[:at]
    header = len(sound) - sum(tensor.values.size * 4 for tensor in llama_tensors())
    for number in range(flips):
        # Three of four in the header, where most of the harm is.
        at = dice.randrange(header if number % 4 else len(sound))
        flipped = bytearray(sound)
        flipped[at] ^= 1 << dice.randrange(8)
        yield f"bit flipped at {at}", bytes(flipped)
