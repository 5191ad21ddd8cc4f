"""Writes small GGUF files: sound ones of a random llama model, and any damage to them.

Owns the writing only; independent of the reader under test and of the `gguf` package.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping, Sequence

import numpy as np

Value = int | float | bool | str | list[str] | list[int]

CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A float32 tensor; shape in GGUF's order, fastest first."""

    name: str
    shape: tuple[int, ...]
    values: np.ndarray


def gguf_bytes(metadata: Mapping[str, Value], tensors: Sequence[Tensor], version: int = 3) -> bytes:
    """A GGUF file of these parts."""
    header = [b"GGUF", struct.pack("<IQQ", version, len(tensors), len(metadata))]
    header += [_text(key) + _value(value) for key, value in metadata.items()]
    offset, data = 0, []
    for tensor in tensors:
        header.append(_text(tensor.name) + struct.pack("<I", len(tensor.shape)))
        header.append(struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape) + struct.pack("<IQ", 0, offset))
        raw = tensor.values.astype("<f4").tobytes()
        data.append(raw + bytes(-len(raw) % 32))
        offset += len(data[-1])
    head = b"".join(header)
    return head + bytes(-len(head) % 32) + b"".join(data)


def llama_metadata(**changes: Value) -> dict[str, Value]:
    """Metadata of a tiny llama model; keys of `changes` with '__' for '.'."""
    metadata: dict[str, Value] = {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.context_length": 512,
        "llama.embedding_length": 32,
        "llama.feed_forward_length": 32,
        "llama.attention.head_count": 2,
        "llama.attention.head_count_kv": 1,
        "llama.rope.dimension_count": 16,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": vocabulary(),
        "tokenizer.ggml.token_type": [3] * len(CONTROL_TOKENS) + [1] * 257,
        "tokenizer.ggml.merges": ["h e"],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHATML,
    }
    metadata.update({key.replace("__", "."): value for key, value in changes.items()})
    return metadata


def llama_tensors(seed: int = 0) -> list[Tensor]:
    """Random weights for `llama_metadata`."""
    random = np.random.default_rng(seed)
    size = len(vocabulary())
    shapes = {
        "token_embd.weight": (32, size),
        "output.weight": (32, size),
        "blk.0.attn_q.weight": (32, 32),
        "blk.0.attn_k.weight": (32, 16),
        "blk.0.attn_v.weight": (32, 16),
        "blk.0.attn_output.weight": (32, 32),
        "blk.0.ffn_gate.weight": (32, 32),
        "blk.0.ffn_up.weight": (32, 32),
        "blk.0.ffn_down.weight": (32, 32),
    }
    norms = ("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight")
    weights = [Tensor(name, shape, random.normal(size=shape)) for name, shape in shapes.items()]
    return weights + [Tensor(name, (32,), np.ones(32)) for name in norms]


def llama_file(**changes: Value) -> bytes:
    """A whole random model that llama.cpp loads."""
    return gguf_bytes(llama_metadata(**changes), llama_tensors())


def vocabulary() -> list[str]:
    """Three control tokens, the 256 bytes as GPT-2 writes them, and one merged token."""
    printable, others = _bytes_in_order()
    characters = [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]
    return [*CONTROL_TOKENS, *characters, "he"]


def token_bytes() -> list[bytes]:
    """The bytes of each token of `vocabulary`; a control token has none."""
    printable, others = _bytes_in_order()
    return [b""] * len(CONTROL_TOKENS) + [bytes([byte]) for byte in (*printable, *others)] + [b"he"]


def _bytes_in_order() -> tuple[list[int], list[int]]:
    """Bytes that GPT-2 writes as they are, and the rest."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return printable, [byte for byte in range(256) if byte not in printable]


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if value and isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(_text(str(item)) for item in value)
    return struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(
        f"<{len(value)}i", *[int(item) for item in value]
    )
