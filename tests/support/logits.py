"""How sure a GGUF model was of its next token: the distance of its two best logits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workers.llama.placement import CACHE_TYPES, Placement


class Logits:
    """One model, asked one sequence at a time, outside of any worker.

    placement: of the worker that it is compared with; its flash attention and its KV cache count.
    """

    def __init__(self, model: Path, placement: Placement, context: int = 2048) -> None:
        from llama_cpp import Llama

        self._llama = Llama(
            str(model),
            n_ctx=context,
            n_threads=1,
            flash_attn=placement.flash_attention == "on",
            type_k=CACHE_TYPES[placement.cache_type][0],
            type_v=CACHE_TYPES[placement.value_type or placement.cache_type][0],
            verbose=False,
            logits_all=True,
        )

    def after(self, prompt: str, answer: Sequence[int]) -> NDArray[np.float64]:
        """float64 (vocabulary,): the logits behind a prompt and the tokens of its answer so far."""
        self._llama.reset()  # type: ignore[no-untyped-call]
        self._llama.eval([*self._llama.tokenize(prompt.encode(), add_bos=True), *answer])
        return np.array(self._llama.eval_logits[-1], dtype=np.float64)

    def gap(self, prompt: str, answer: Sequence[int], forbidden: Collection[int] = ()) -> float:
        """Distance of the two best logits behind a prompt and the tokens of its answer so far."""
        logits = self.after(prompt, answer)
        logits[list(forbidden)] = -np.inf
        second, best = np.partition(logits, -2)[-2:]
        return float(best - second)

    def close(self) -> None:
        """Free the model."""
        self._llama.close()


def first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Position of the first token in which two answers differ; None if they are the same."""
    if list(one) == list(other):
        return None
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))
