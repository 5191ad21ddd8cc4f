"""The vocabulary of a model as the choice of tokens needs it.

Owns the bytes of each token, and which tokens end an answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from workers.llama.native import NativeModel

NO_BYTE = 256
"""Stands for the first byte of a token that has none."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """What tokens stand for.

    pieces: the bytes of each token, by id; empty for control tokens. control_names: the texts by
    which templates name those, by id. first_bytes: int16 (vocabulary,), NO_BYTE = none; such a token
    and the end tokens are never part of a text.
    """

    pieces: Sequence[bytes]
    end_tokens: frozenset[int]
    control_names: Mapping[int, str] = dataclasses.field(default_factory=dict)
    first_bytes: NDArray[np.int16] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        found = np.fromiter((piece[0] if piece else NO_BYTE for piece in self.pieces), dtype=np.int16)
        found[[token for token in self.end_tokens if token < len(found)]] = NO_BYTE
        object.__setattr__(self, "first_bytes", found)

    def telling(self, names: Collection[str]) -> Vocabulary:
        """This vocabulary, with the texts of the control tokens of these names in their pieces."""
        told = {token: name.encode() for token, name in self.control_names.items() if name in names}
        if not told:
            return self
        pieces = list(self.pieces)
        for token, piece in told.items():
            pieces[token] = piece
        return Vocabulary(pieces, self.end_tokens, self.control_names)


def read_vocabulary(model: NativeModel) -> Vocabulary:
    """The vocabulary of a model."""
    names = {
        token: model.piece(token, with_control=True).decode("utf-8", errors="replace")
        for token in sorted(model.control_tokens())
    }
    return Vocabulary(model.pieces(), model.end_tokens(), names)
