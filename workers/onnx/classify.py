"""Task classify: labels of texts, from a graph that gives a logit for each label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from inference_mesh.v1 import payload_pb2
from workers.onnx.model_files import Activation
from workers.onnx.rows import Work
from workers.onnx.text_rows import FloatArray, TextRows, text_row
from workers.onnx.tokenizer import Tokenizer
from workers.text_tasks.texts import LARGE_CHARACTERS, check_texts


class ClassifyTask:
    """Takes `Classify`, answers `Classifications`. labels: in the order of the logits."""

    def __init__(
        self, tokenizer: Tokenizer, kind: TextRows, labels: Sequence[str], activation: Activation
    ) -> None:
        self._tokenizer = tokenizer
        self._kind = kind
        self._labels = labels
        self._activation = activation

    def is_large(self, payload: payload_pb2.Payload) -> bool:
        """True if there is more than a page of text."""
        return sum(len(text) for text in payload.classify.texts) > LARGE_CHARACTERS

    def encode(self, payload: payload_pb2.Payload) -> Work:
        """A row for each text. Raises InvalidInputError, InputTooLongError."""
        texts = payload.classify.texts
        check_texts(texts, "texts")
        if payload.classify.truncate:
            encodings = [self._tokenizer.encode_cut(text) for text in texts]
        else:
            encodings = [self._tokenizer.encode(text, f"texts[{index}]") for index, text in enumerate(texts)]
        rows = [text_row(index, encoding) for index, encoding in enumerate(encodings)]
        return Work(self._kind, rows, prompt_tokens=sum(row.length for row in rows))

    def decode(self, payload: payload_pb2.Payload, results: Sequence[Any]) -> payload_pb2.Output:
        """The labels of each text, best first; all, or the best `top_k`."""
        answer = payload_pb2.Classifications()
        for result in results:
            scores = probabilities(result, self._activation)
            best = np.argsort(-scores, kind="stable")[: payload.classify.top_k or None]
            labels = [
                payload_pb2.LabelScore(label=self._labels[place], score=scores[place]) for place in best
            ]
            answer.results.append(payload_pb2.LabelScores(labels=labels))
        return payload_pb2.Output(classify=answer)


def probabilities(logits: FloatArray, activation: Activation) -> FloatArray:
    """The probability of each label, (labels,): softmax if one holds, sigmoid if several may."""
    if activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -80, 80))), dtype=np.float32)
    exponentials = np.exp(logits - logits.max())
    return np.asarray(exponentials / exponentials.sum(), dtype=np.float32)
