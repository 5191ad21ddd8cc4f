"""Chooses a token that a grammar allows.

Owns the order of trying: a token is chosen freely first, and only if the grammar refuses it are
others tried, the most probable first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from inference_mesh.errors import InvalidInputError
from workers.llama.gbnf.state import GrammarState
from workers.llama.sampling import FloatArray, IntArray, SamplingParams, choose
from workers.llama.vocabulary import Vocabulary

MOST_CANDIDATES = 256
"""Of the tokens that the grammar allows, only so many of the most probable are chosen from."""

TRIED_FIRST = 512


def choose_allowed(
    grammar: GrammarState,
    vocabulary: Vocabulary,
    scores: FloatArray,
    params: SamplingParams,
    position: int,
) -> int:
    """The next token of an answer, which the grammar is taken past.

    scores: float32 (vocabulary,); position: of the answer. Raises InvalidInputError if no token of
    the model fits, or the grammar is too ambiguous.
    """
    token = choose(scores, params, position)
    if not _fits(grammar, vocabulary, token):
        token = choose(_masked(grammar, vocabulary, scores, params), params, position)
    if token not in vocabulary.end_tokens:
        grammar.accept(vocabulary.pieces[token])
    return token


def _fits(grammar: GrammarState, vocabulary: Vocabulary, token: int) -> bool:
    return grammar.may_end if token in vocabulary.end_tokens else grammar.allows(vocabulary.pieces[token])


def _masked(
    grammar: GrammarState, vocabulary: Vocabulary, scores: FloatArray, params: SamplingParams
) -> FloatArray:
    """The scores of the most probable tokens that fit, -inf elsewhere."""
    wanted = 1 if params.temperature == 0 else min(params.top_k or MOST_CANDIDATES, MOST_CANDIDATES)
    masked = np.full_like(scores, -np.inf)
    for token in _by_score(scores, _candidates(grammar, vocabulary)):
        if _fits(grammar, vocabulary, token):
            masked[token] = scores[token]
            wanted -= 1
            if not wanted:
                break
    if not np.isfinite(masked).any():
        raise InvalidInputError(f"{grammar.field}: the model has no token that may come next")
    return masked


def _candidates(grammar: GrammarState, vocabulary: Vocabulary) -> IntArray:
    """Ids of the tokens whose first byte may come next, and of those that end the answer if it may."""
    allowed = np.append(grammar.first_bytes(), np.False_)[vocabulary.first_bytes]
    if grammar.may_end:
        allowed[[token for token in vocabulary.end_tokens if token < len(allowed)]] = True
    return np.flatnonzero(allowed)


def _by_score(scores: FloatArray, tokens: IntArray) -> Iterator[int]:
    """The tokens, best first; ties by id. The best few are sorted apart: they mostly suffice."""
    values = scores[tokens]
    if len(tokens) > TRIED_FIRST:
        least = np.partition(values, -TRIED_FIRST)[-TRIED_FIRST]
        yield from _sorted(values, tokens, values >= least)
        yield from _sorted(values, tokens, values < least)
    else:
        yield from _sorted(values, tokens, np.ones(len(tokens), dtype=np.bool_))


def _sorted(
    values: FloatArray, tokens: IntArray, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> list[int]:
    order = np.argsort(-values[chosen], kind="stable")
    return [int(token) for token in tokens[chosen][order]]
