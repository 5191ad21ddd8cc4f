"""The choice of a token: ranges, order of the filters, penalties, reproducibility."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_mesh.errors import InvalidInputError
from inference_mesh.v1 import payload_pb2
from workers.llama.sampling import SamplingParams, adjusted, choose, sampling_params, uniform

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))
OPEN = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temperature": 1.0}


def drawn(logits: np.ndarray, draws: int = 4000, **fields: float) -> list[float]:
    """How often each token is chosen."""
    params = SamplingParams(**{**OPEN, **fields})  # type: ignore[arg-type]
    counts = np.bincount([choose(logits, params, at) for at in range(draws)], minlength=len(logits))
    return [float(share) for share in counts / draws]


def test_tokens_come_as_often_as_they_are_probable() -> None:
    assert drawn(LOGITS) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)


def test_temperature_zero_takes_the_most_probable() -> None:
    assert drawn(LOGITS, draws=50, temperature=0) == [1, 0, 0, 0]


def test_a_low_temperature_sharpens() -> None:
    assert drawn(LOGITS, temperature=0.5)[0] == pytest.approx(0.25 / 0.365, abs=0.03)


def test_top_k_keeps_the_k_best() -> None:
    assert drawn(LOGITS, top_k=2) == pytest.approx([0.625, 0.375, 0, 0], abs=0.03)


def test_top_p_is_of_what_top_k_left() -> None:
    # Of all tokens 0.6 needs two; of the best two, 0.625 + 0.375, it needs the first alone.
    assert drawn(LOGITS, top_p=0.6)[1] > 0
    assert drawn(LOGITS, draws=200, top_k=2, top_p=0.6) == [1, 0, 0, 0]


def test_min_p_is_relative_to_the_best() -> None:
    assert drawn(LOGITS, draws=500, min_p=0.5)[2:] == [0, 0]
    assert drawn(LOGITS, draws=500, min_p=0.61)[1] == 0


def test_forbidden_tokens_are_never_chosen() -> None:
    logits = LOGITS.copy()
    logits[0] = -np.inf
    assert drawn(logits, draws=500)[0] == 0


@given(st.integers(0, 2**32 - 1), st.integers(0, 10**6))
def test_the_random_numbers_repeat_and_stay_in_range(seed: int, position: int) -> None:
    assert uniform(seed, position) == uniform(seed, position)
    assert 0 <= uniform(seed, position) < 1


def test_different_seeds_choose_differently() -> None:
    rows = {
        tuple(choose(LOGITS, SamplingParams(**OPEN, seed=seed), at) for at in range(20))  # type: ignore[arg-type]
        for seed in range(10)
    }
    assert len(rows) == 10


def test_nothing_set_leaves_the_logits_themselves() -> None:
    assert adjusted(LOGITS, SamplingParams(), [1, 2], 1) is LOGITS


def test_the_repetition_penalty_sees_the_prompt_and_works_on_both_signs() -> None:
    logits = np.array([2.0, -2.0, 1.0], dtype=np.float32)
    result = adjusted(logits, SamplingParams(repetition_penalty=2.0), [0, 1], 2)
    assert result.tolist() == [1.0, -4.0, 1.0]


def test_the_repetition_penalty_forgets_after_64_tokens() -> None:
    logits = np.array([2.0, 2.0], dtype=np.float32)
    result = adjusted(logits, SamplingParams(repetition_penalty=2.0), [0] + [1] * 64, 0)
    assert result.tolist() == [2.0, 1.0]


def test_frequency_and_presence_see_the_answer_only() -> None:
    logits = np.zeros(3, dtype=np.float32)
    params = SamplingParams(frequency_penalty=0.5, presence_penalty=0.25)
    assert adjusted(logits, params, [0, 1, 1], 1).tolist() == [0.0, -1.25, 0.0]


def test_a_bias_is_added() -> None:
    result = adjusted(np.zeros(3, dtype=np.float32), SamplingParams(logit_bias=((1, -100.0),)), [], 0)
    assert result.tolist() == [0.0, -100.0, 0.0]


def test_absent_fields_take_the_documented_defaults() -> None:
    params = sampling_params(payload_pb2.Sampling(seed=3), 10)
    assert params == SamplingParams(0.8, 40, 0.95, 0.05, 1.0, 0.0, 0.0, 3)


def test_an_absent_seed_is_random() -> None:
    assert len({sampling_params(payload_pb2.Sampling(), 10).seed for _ in range(5)}) > 1


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"repetition_penalty": 0.0},
        {"frequency_penalty": float("inf")},
        {"presence_penalty": -3.0},
        {"logit_bias": {10: 1.0}},
        {"logit_bias": {1: 101.0}},
        {"logit_bias": dict.fromkeys(range(301), 0.0)},
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, object]) -> None:
    vocabulary_size = 1000 if len(str(fields)) > 200 else 10
    with pytest.raises(InvalidInputError):
        sampling_params(payload_pb2.Sampling(**fields), vocabulary_size)  # type: ignore[arg-type]
