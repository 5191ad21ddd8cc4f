"""A GBNF grammar of llama.cpp that says which tokens may come next, with types.

Owns one grammar's state. Asking for one token costs 4 us, masking a whole vocabulary of
49,152 costs 15 ms: so a token is chosen first and only a refused one leads to the mask.
"""

from __future__ import annotations

import ctypes

import numpy as np

from inference_mesh.errors import InvalidInputError
from workers.llama.native import NativeModel, llama
from workers.llama.sampling import FloatArray

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class NativeGrammar:
    """The state of one answer within its grammar."""

    def __init__(self, model: NativeModel, grammar: str) -> None:
        """Parse GBNF text. Raises InvalidInputError if llama.cpp does not take it."""
        self._llama = llama()
        self._vocabulary_size = model.vocabulary_size
        self._handle = self._llama.llama_sampler_init_grammar(model.vocabulary, grammar.encode(), b"root")
        if not self._handle:
            raise InvalidInputError("json_schema cannot be turned into a grammar")

    def close(self) -> None:
        """Free it."""
        if self._handle:
            self._llama.llama_sampler_free(self._handle)
            self._handle = None

    def allows(self, token: int) -> bool:
        """True if `token` may come next."""
        candidates = np.zeros(1, dtype=_CANDIDATE)
        candidates["id"] = token
        return bool(np.isfinite(self._masked(candidates)["logit"][0]))

    def mask(self, logits: FloatArray) -> FloatArray:
        """The logits, -inf where a token may not come next."""
        candidates = np.zeros(self._vocabulary_size, dtype=_CANDIDATE)
        candidates["id"] = np.arange(self._vocabulary_size, dtype=np.int32)
        candidates["logit"] = logits
        return np.ascontiguousarray(self._masked(candidates)["logit"])

    def accept(self, token: int) -> None:
        """Go on past `token`. Raises ValueError if it is not allowed: llama.cpp would abort."""
        if not self.allows(token):
            raise ValueError("the grammar does not allow this token")
        self._llama.llama_sampler_accept(self._handle, token)

    def _masked(
        self, candidates: np.ndarray[tuple[int], np.dtype[np.void]]
    ) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        array = self._llama.llama_token_data_array(
            data=ctypes.cast(candidates.ctypes.data, self._llama.llama_token_data_p),
            size=len(candidates),
            selected=-1,
            sorted=False,
        )
        self._llama.llama_sampler_apply(self._handle, ctypes.byref(array))
        return candidates
