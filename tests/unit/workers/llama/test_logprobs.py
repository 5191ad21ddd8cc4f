"""Log probabilities are those of the logits, and wait for their tokens."""

from __future__ import annotations

import numpy as np
import pytest

from workers.llama.logprobs import TokenLogprobs

LOGITS = np.array([0.0, 3.0, 1.0, 2.0, -5.0], dtype=np.float32)
PIECES = [b"", b"a", b"b", b"\xf0", b"d"]


def test_they_are_the_logarithms_of_a_softmax() -> None:
    told = TokenLogprobs(0, PIECES)
    told.note(LOGITS, 3)
    expected = np.log(np.exp(LOGITS) / np.exp(LOGITS).sum())
    (one,) = told.take(1)
    assert one.logprob == pytest.approx(expected[3], abs=1e-6)
    assert (one.token, one.text, len(one.top)) == (3, b"\xf0", 0)


@pytest.mark.parametrize(("count", "tokens"), [(1, [1]), (3, [1, 3, 2]), (20, [1, 3, 2, 0, 4])])
def test_the_most_probable_come_best_first(count: int, tokens: list[int]) -> None:
    told = TokenLogprobs(count, PIECES)
    told.note(LOGITS, 0)
    (one,) = told.take(1)
    assert [top.token for top in one.top] == tokens
    assert [top.logprob for top in one.top] == sorted((top.logprob for top in one.top), reverse=True)


def test_each_is_given_once_in_the_order_of_the_tokens() -> None:
    told = TokenLogprobs(0, PIECES)
    for token in (1, 2, 3):
        told.note(LOGITS, token)
    assert [one.token for one in (*told.take(0), *told.take(2), *told.take(1))] == [1, 2, 3]


def test_a_certain_token_is_never_more_than_certain() -> None:
    told = TokenLogprobs(0, PIECES)
    told.note(np.array([1000.0, -1000.0], dtype=np.float32), 0)
    assert told.take(1)[0].logprob == 0
