"""Writes a llama model of 127 million random weights: speed does not depend on what they are.

Run by the environment of the peers, which has `gguf`: `python -m tests.bench.engines.llama_model PATH KIND`,
where KIND is Q8_0 or Q4_0.
Always the same bytes. Prompts of plain letters are one token a letter, and it never ends an answer by
itself: the rows of its control tokens are zero.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, KEY_VALUE_HEADS, FEED_FORWARD = 768, 12, 12, 4, 2560
VOCABULARY, CONTEXT = 49_152, 4096
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
FILE_TYPES = {"Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0, "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0}


def write_model(path: Path, kind: str) -> None:
    """Replaces `path` at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    writer = gguf.GGUFWriter(temporary, "llama")
    writer.add_file_type(FILE_TYPES[kind])
    _add_shape(writer)
    _add_tokenizer(writer)
    _add_weights(writer, gguf.GGMLQuantizationType[kind], np.random.default_rng(5))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    temporary.replace(path)


def _add_shape(writer: gguf.GGUFWriter) -> None:
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_VALUE_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = 256 - len(printable)
    letters = [chr(byte) for byte in printable] + [chr(256 + index) for index in range(others)]
    made = [f"w{index}" for index in range(VOCABULARY - len(CONTROL_TOKENS) - len(letters))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*CONTROL_TOKENS, *letters, *made])
    plain = [gguf.TokenType.NORMAL] * (len(letters) + len(made))
    writer.add_token_types([gguf.TokenType.CONTROL] * len(CONTROL_TOKENS) + plain)
    writer.add_token_merges(["w 0"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)


def _add_weights(
    writer: gguf.GGUFWriter, kind: gguf.GGMLQuantizationType, random: np.random.Generator
) -> None:
    head = WIDTH // HEADS
    shapes = {
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (head * KEY_VALUE_HEADS, WIDTH),
        "attn_v": (head * KEY_VALUE_HEADS, WIDTH),
        "attn_output": (WIDTH, WIDTH),
        "ffn_gate": (FEED_FORWARD, WIDTH),
        "ffn_up": (FEED_FORWARD, WIDTH),
        "ffn_down": (WIDTH, FEED_FORWARD),
    }
    embedding = random.normal(0, 0.02, (VOCABULARY, WIDTH)).astype(np.float32)
    embedding[: len(CONTROL_TOKENS)] = 0
    _add_matrix(writer, "token_embd", embedding, kind)
    for layer in range(LAYERS):
        for name, shape in shapes.items():
            weights = random.normal(0, shape[1] ** -0.5, shape).astype(np.float32)
            _add_matrix(writer, f"blk.{layer}.{name}", weights, kind)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(WIDTH, np.float32))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))


def _add_matrix(
    writer: gguf.GGUFWriter, name: str, values: np.ndarray, kind: gguf.GGMLQuantizationType
) -> None:
    writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)


if __name__ == "__main__":
    write_model(Path(sys.argv[1]), sys.argv[2])
