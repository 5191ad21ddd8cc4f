"""Writes the trained network as a GGUF file that llama.cpp loads: Q8_0 matrices, F32 norms."""

from __future__ import annotations

import json
import os
from pathlib import Path

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.tiny_chat.chat import END, END_OF_TEXT, SPECIAL_TOKENS, TEMPLATE
from models.tiny_chat.network import Shape

_LAYER_NAMES = {
    "attention_norm": "attn_norm",
    "attention.query": "attn_q",
    "attention.key": "attn_k",
    "attention.value": "attn_v",
    "attention.output": "attn_output",
    "feed_forward_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def write_gguf(path: Path, state: dict[str, torch.Tensor], tokenizer: Tokenizer, shape: Shape) -> None:
    """Replaces `path` at once. The output matrix is the embedding, so it is not written (tied)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    writer = gguf.GGUFWriter(temporary, "llama")
    _add_description(writer, sum(tensor.numel() for tensor in state.values()))
    _add_shape(writer, shape)
    _add_tokenizer(writer, tokenizer)
    for name, tensor in state.items():
        _add_tensor(writer, _gguf_name(name), np.ascontiguousarray(tensor.numpy(), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(temporary, path)


def _add_description(writer: gguf.GGUFWriter, parameters: int) -> None:
    writer.add_name("Tiny Chat")
    writer.add_author("The inference-mesh authors")
    writer.add_version("1")
    writer.add_description("A very small chat model for tests and demonstrations, trained on made-up text.")
    writer.add_license("Apache-2.0")
    writer.add_size_label(f"{parameters / 1e6:.1f}M")
    writer.add_languages(["en"])


def _add_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_value_heads)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    """Raises ValueError on a token that stands twice: llama.cpp would abort on it."""
    tokens = [tokenizer.id_to_token(index) for index in range(tokenizer.get_vocab_size())]
    if len(set(tokens)) != len(tokens):
        raise ValueError("a token stands twice in the vocabulary")
    types = [gguf.TokenType.CONTROL if token in SPECIAL_TOKENS else gguf.TokenType.NORMAL for token in tokens]
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_eos_token_id(tokenizer.token_to_id(END))
    writer.add_eot_token_id(tokenizer.token_to_id(END))
    writer.add_bos_token_id(tokenizer.token_to_id(END_OF_TEXT))
    writer.add_pad_token_id(tokenizer.token_to_id(END_OF_TEXT))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _add_tensor(writer: gguf.GGUFWriter, name: str, values: NDArray[np.float32]) -> None:
    if values.ndim == 1:
        writer.add_tensor(name, values)
        return
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)


def _gguf_name(name: str) -> str:
    if name == "embedding.weight":
        return "token_embd.weight"
    if name == "norm.weight":
        return "output_norm.weight"
    _, layer, rest = name.split(".", 2)
    return f"blk.{layer}.{_LAYER_NAMES[rest.removesuffix('.weight')]}.weight"
