from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.shadow.measures import (
    Measure,
    compare_arrays,
    compare_embeddings,
    compare_json,
    compare_tokens,
)


def test_tensors_are_as_far_apart_as_their_most_different_numbers() -> None:
    found = compare_arrays([np.array([1.0, 2.0]), np.array([[5]])], [np.array([1.0, 2.5]), np.array([[5]])])
    assert (found.measure, found.value, found.agrees) == (Measure.TENSOR_MAX_ABS_DIFF, 0.5, False)


def test_a_difference_within_the_tolerance_of_large_numbers_agrees() -> None:
    assert compare_arrays([np.array([1000.0])], [np.array([1000.9])]).agrees
    assert not compare_arrays([np.array([1.0])], [np.array([1.9])]).agrees


def test_unsigned_numbers_do_not_wrap() -> None:
    assert compare_arrays([np.array([0], np.uint8)], [np.array([255], np.uint8)]).value == 255


@pytest.mark.parametrize(
    ("one", "other", "value"),
    [
        ([math.nan], [math.nan], 0.0),
        ([math.inf], [math.inf], 0.0),
        ([math.nan], [1.0], math.inf),
        ([math.inf], [-math.inf], math.inf),
        ([], [], 0.0),
    ],
)
def test_what_is_no_number_equals_only_itself(one: list[float], other: list[float], value: float) -> None:
    found = compare_arrays([np.array(one)], [np.array(other)])
    assert (found.value, found.agrees) == (value, value == 0.0)


def test_arrays_of_other_shapes_or_counts_agree_in_nothing() -> None:
    assert compare_arrays([np.zeros(2)], [np.zeros((2, 1))]).value == math.inf
    assert compare_arrays([np.zeros(2)], [np.zeros(2), np.zeros(2)]).value == math.inf


def test_texts_are_equal_or_not() -> None:
    texts = np.array([b"a", b"b"], dtype=object)
    assert compare_arrays([texts], [texts.copy()]).agrees
    assert compare_arrays([texts], [np.array([b"a", b"c"], dtype=object)]).value == 1.0
    assert compare_arrays([texts], [np.zeros(2)]).value == 1.0


def test_embeddings_are_as_far_apart_as_their_most_different_text() -> None:
    one = np.array([[1, 0], [1, 0]], np.float32)
    other = np.array([[2, 0], [1, 1]], np.float32)
    found = compare_embeddings(one, other)
    assert found.value == pytest.approx(math.sqrt(0.5))
    assert not found.agrees
    assert compare_embeddings(one, one * 3).agrees


def test_embeddings_without_an_angle_are_equal_only_if_both_are_zero() -> None:
    zero, some = np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)
    assert compare_embeddings(zero, zero).value == 1.0
    assert compare_embeddings(zero, some).value == 0.0
    assert compare_embeddings(some, np.ones((1, 3), np.float32)).value == 0.0
    assert compare_embeddings(some, np.full((1, 2), math.nan, np.float32)).value == 0.0


def test_tokens_agree_as_far_as_both_begin_alike() -> None:
    assert compare_tokens([1, 2, 3, 4], [1, 2, 9, 4]).value == 0.5
    assert compare_tokens([1, 2], [1, 2, 3, 4]).value == 0.5
    assert compare_tokens([], []).agrees
    assert compare_tokens([1], []).value == 0.0


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3)))
def test_token_agreement_is_symmetric_and_whole_only_for_equal_tokens(
    one: list[int], other: list[int]
) -> None:
    found = compare_tokens(one, other)
    assert found == compare_tokens(other, one)
    assert 0.0 <= found.value <= 1.0
    assert found.agrees == (one == other) == (found.value == 1.0)


@pytest.mark.parametrize(
    ("one", "other", "is_equal"),
    [
        ({"a": 1, "b": [1, None]}, {"b": [1, None], "a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 0}, {"a": False}, False),
        ([1, 2], [2, 1], False),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ("1", 1, False),
        (None, None, True),
    ],
)
def test_json_is_equal_by_its_values(one: object, other: object, is_equal: bool) -> None:
    found = compare_json(one, other)
    assert (found.measure, found.value, found.agrees) == (Measure.JSON_EQUAL, float(is_equal), is_equal)
