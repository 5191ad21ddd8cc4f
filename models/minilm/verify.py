"""The proof that the converted model is the published one: against the reference and known figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.minilm.reference import ReferenceBert

MAX_DIFFERENCE = 1e-5
SIMILARITY_TOLERANCE = 1e-4

ANCHOR = "That is a happy person"
KNOWN_SIMILARITIES = {
    "That is a happy dog": 0.6946,
    "That is a very happy person": 0.9429,
    "Today is a sunny day": 0.2569,
}
"""Cosine similarity to ANCHOR, as published for this model."""

SENTENCES = (
    ANCHOR,
    *KNOWN_SIMILARITIES,
    "Hello",
    "?",
    "The gateway is the one door of the mesh.",
    "Café, naïve, 東京, emoji 🙂 and unusualwordswithoutspaces",
    "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen.",
    "A worker holds one model and answers requests that arrive while the last batch was being computed.",
    "SELECT name, age FROM users WHERE age > 21 ORDER BY name;",
    " ".join(["A longer text is here so that the batch has padding in all of its other rows."] * 4),
)


class VerificationError(Exception):
    """The converted model does not compute what the published one does."""


class Measured(NamedTuple):
    """How well both agree."""

    max_difference: float
    similarities: dict[str, float]


def embed(session: onnxruntime.InferenceSession, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """All texts as one padded batch through the ONNX model: float32 (batch, width)."""
    longest = max(len(ids) for ids in token_ids)
    ids = np.zeros((len(token_ids), longest), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, text_ids in enumerate(token_ids):
        ids[row, : len(text_ids)] = text_ids
        mask[row, : len(text_ids)] = 1
    return np.asarray(session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})[0])


def max_difference(
    session: onnxruntime.InferenceSession, reference: ReferenceBert, token_ids: Sequence[Sequence[int]]
) -> float:
    """The largest absolute difference of any number of any vector."""
    wanted = np.stack([reference.embed(ids) for ids in token_ids])
    return float(np.abs(embed(session, token_ids) - wanted).max())


def verify(model: Path, tokenizer: Path, tensors: Mapping[str, NDArray[Any]], *, heads: int) -> Measured:
    """The agreement with the reference and with the known figures. Raises VerificationError."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    encoder = Tokenizer.from_file(str(tokenizer))
    token_ids = [encoder.encode(sentence).ids for sentence in SENTENCES]
    difference = max_difference(session, ReferenceBert(tensors, heads=heads), token_ids)
    if not difference < MAX_DIFFERENCE:
        raise VerificationError(
            f"differs from the reference by {difference:.1e}, allowed {MAX_DIFFERENCE:.0e}"
        )
    similarities = known_similarities(session, encoder)
    for sentence, wanted in KNOWN_SIMILARITIES.items():
        if abs(similarities[sentence] - wanted) > SIMILARITY_TOLERANCE:
            raise VerificationError(
                f"similarity to {sentence!r} is {similarities[sentence]:.4f}, not {wanted}"
            )
    return Measured(difference, similarities)


def known_similarities(session: onnxruntime.InferenceSession, encoder: Tokenizer) -> dict[str, float]:
    """The cosine similarity of ANCHOR to each sentence of KNOWN_SIMILARITIES."""
    vectors = embed(session, [encoder.encode(text).ids for text in (ANCHOR, *KNOWN_SIMILARITIES)])
    return dict(zip(KNOWN_SIMILARITIES, (vectors[1:] @ vectors[0]).tolist(), strict=True))
