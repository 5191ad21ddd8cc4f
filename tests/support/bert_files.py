"""Writes small random BERT models as GGUF files, and computes them in numpy.

The computation is the tests' reference: float64, one text at a time, written from the paper
(Devlin et al. 2019) and independent of llama.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.gguf_files import Tensor, Value, gguf_bytes

WIDTH, FEED_FORWARD, HEADS, LAYERS, POSITIONS = 32, 64, 2, 2, 48
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CLS, SEP = 2, 3
WORDS = [f"word{number}" for number in range(40)]
"""Each is one token of its own."""

_VECTOR_NAMES = ("attn_output_norm", "layer_output_norm")


class TinyBert:
    """A random model. score_head: it gives a score, as a cross-encoder does."""

    def __init__(self, seed: int = 0, *, score_head: bool = False, **changes: Any) -> None:
        self._dice = np.random.default_rng(seed)
        self._changes = changes
        self.vocabulary = [*SPECIAL, *(f"\u2581{word}" for word in WORDS), "\u2581a"]
        self.tensors: dict[str, NDArray[np.float64]] = {}
        self._embeddings()
        for layer in range(LAYERS):
            self._layer(f"blk.{layer}.")
        if score_head:
            self._add("cls.weight", (WIDTH, WIDTH))
            self._add("cls.output.weight", (WIDTH, 1))

    def file(self) -> bytes:
        """The model as a GGUF file."""
        metadata: dict[str, Value] = {
            "general.architecture": "bert",
            "bert.context_length": POSITIONS,
            "bert.embedding_length": WIDTH,
            "bert.feed_forward_length": FEED_FORWARD,
            "bert.block_count": LAYERS,
            "bert.attention.head_count": HEADS,
            "bert.attention.layer_norm_epsilon": 1e-12,
            "bert.attention.causal": False,
            "bert.pooling_type": 1,
            "tokenizer.ggml.model": "bert",
            "tokenizer.ggml.pre": "jina-v2-en",
            "tokenizer.ggml.token_type_count": 2,
            "tokenizer.ggml.tokens": self.vocabulary,
            "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (len(self.vocabulary) - len(SPECIAL)),
            "tokenizer.ggml.padding_token_id": 0,
            "tokenizer.ggml.unknown_token_id": 1,
            "tokenizer.ggml.cls_token_id": CLS,
            "tokenizer.ggml.bos_token_id": CLS,
            "tokenizer.ggml.seperator_token_id": SEP,
            "tokenizer.ggml.eos_token_id": SEP,
            "tokenizer.ggml.mask_token_id": 4,
        }
        metadata |= {key.replace("__", "."): value for key, value in self._changes.items()}
        # GGUF's order of sizes is the fastest first, numpy's the slowest.
        tensors = [Tensor(name, value.shape[::-1], value) for name, value in self.tensors.items()]
        return gguf_bytes(metadata, tensors)

    def ids(self, text: str) -> list[int]:
        """The tokens of a text of WORDS."""
        return [self.vocabulary.index(f"\u2581{word}") for word in text.split()]

    def hidden(self, ids: Sequence[int]) -> NDArray[np.float64]:
        """The last hidden state, (tokens, width)."""
        get = self.tensors
        state = get["token_embd.weight"][ids] + get["token_types.weight"][0]
        state = self._norm("token_embd_norm", state + get["position_embd.weight"][: len(ids)])
        for layer in range(LAYERS):
            name = f"blk.{layer}."
            attended = self._dense(f"{name}attn_output", self._attention(name, state))
            state = self._norm(f"{name}attn_output_norm", state + attended)
            inner = _gelu(self._dense(f"{name}ffn_up", state))
            state = self._norm(f"{name}layer_output_norm", state + self._dense(f"{name}ffn_down", inner))
        return state

    def embedding(self, ids: Sequence[int]) -> NDArray[np.float64]:
        """The mean of the hidden state, of length 1."""
        mean = self.hidden(ids).mean(axis=0)
        unit: NDArray[np.float64] = mean / np.linalg.norm(mean)
        return unit

    def score(self, ids: Sequence[int]) -> float:
        """What the score head makes of the first token."""
        first = np.tanh(self.tensors["cls.weight"] @ self.hidden(ids)[0])
        return float((self.tensors["cls.output.weight"] @ first)[0])

    def _embeddings(self) -> None:
        for name, rows in (
            ("token_embd", len(self.vocabulary)),
            ("position_embd", POSITIONS),
            ("token_types", 2),
        ):
            self._add(f"{name}.weight", (WIDTH, rows))
        self._add_norm("token_embd_norm")

    def _layer(self, name: str) -> None:
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            self._add_dense(name + part, WIDTH, WIDTH)
        self._add_dense(f"{name}ffn_up", WIDTH, FEED_FORWARD)
        self._add_dense(f"{name}ffn_down", FEED_FORWARD, WIDTH)
        for part in _VECTOR_NAMES:
            self._add_norm(name + part)

    def _add(self, name: str, shape: tuple[int, ...]) -> None:
        self.tensors[name] = self._dice.normal(scale=0.3, size=shape[::-1]).astype(np.float32).astype(float)

    def _add_dense(self, name: str, inputs: int, outputs: int) -> None:
        self._add(f"{name}.weight", (inputs, outputs))
        self._add(f"{name}.bias", (outputs,))

    def _add_norm(self, name: str) -> None:
        self._add(f"{name}.weight", (WIDTH,))
        self._add(f"{name}.bias", (WIDTH,))

    def _dense(self, name: str, state: NDArray[np.float64]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = state @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]
        return result

    def _norm(self, name: str, state: NDArray[np.float64]) -> NDArray[np.float64]:
        centred = state - state.mean(axis=1, keepdims=True)
        unit = centred / np.sqrt(centred.var(axis=1, keepdims=True) + 1e-12)
        result: NDArray[np.float64] = unit * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]
        return result

    def _attention(self, name: str, state: NDArray[np.float64]) -> NDArray[np.float64]:
        size = WIDTH // HEADS
        query, key, value = (self._dense(name + part, state) for part in ("attn_q", "attn_k", "attn_v"))
        heads = []
        for head in range(HEADS):
            own = slice(head * size, (head + 1) * size)
            weights = np.exp(query[:, own] @ key[:, own].T / math.sqrt(size))
            heads.append(weights / weights.sum(axis=1, keepdims=True) @ value[:, own])
        return np.concatenate(heads, axis=1)


def _gelu(values: NDArray[np.float64]) -> NDArray[np.float64]:
    inner = math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)
    result: NDArray[np.float64] = 0.5 * values * (1 + np.tanh(inner))
    return result
