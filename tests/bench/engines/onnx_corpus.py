"""The sentences that engines for texts are measured on: 5 to 60 tokens, each length as often as any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
import tokenizers
from numpy.typing import NDArray

SHORTEST, LONGEST = 5, 60
SEED = 1
WORDS = [
    "the",
    "a",
    "gateway",
    "model",
    "request",
    "answer",
    "token",
    "batch",
    "queue",
    "light",
    "river",
    "morning",
    "quiet",
    "yellow",
    "garden",
    "seven",
    "people",
    "walk",
    "home",
    "under",
    "rain",
    "before",
    "evening",
    "music",
    "paper",
    "window",
    "small",
    "large",
    "open",
    "close",
    "write",
    "read",
]

Ids = Sequence[int]


def load_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """A model's tokenizer, neither padding nor cutting."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def sentences(tokenizer: tokenizers.Tokenizer, count: int) -> list[str]:
    """The same sentences whenever they are made; lengths are even between SHORTEST and LONGEST."""
    random = Random(SEED)
    made = []
    for _ in range(count):
        length = random.randint(SHORTEST, LONGEST)
        words = [random.choice(WORDS)]
        while len(tokenizer.encode(" ".join(words))) < length:
            words.append(random.choice(WORDS))
        made.append(" ".join(words))
    return made


def open_graph(graph: Path) -> ort.InferenceSession:
    """A bare session as ONNX Runtime makes it, of one thread that does not spin."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def embed(session: ort.InferenceSession, batch: Sequence[Ids]) -> NDArray[np.float32]:
    """The vectors of a batch, padded to its longest."""
    ids = np.zeros((len(batch), max(map(len, batch))), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, tokens in enumerate(batch):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return np.asarray(session.run(None, {"input_ids": ids, "attention_mask": mask})[0])


def sorted_batches(texts: Sequence[Ids], window: int = 64, size: int = 8) -> list[list[Ids]]:
    """Batches of an offline loop: sorted by length within windows, so that little is padding."""
    batches = []
    for start in range(0, len(texts), window):
        near = sorted(texts[start : start + window], key=len)
        batches += [near[place : place + size] for place in range(0, len(near), size)]
    return batches
