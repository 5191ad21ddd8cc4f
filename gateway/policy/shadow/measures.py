"""How far a shadow's answer is from the one that the caller got. Pure.

Owns the measures and from where on two answers agree. Does not read messages.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-3, 1e-4
"""Tensors agree where no number differs by more than the one of itself plus the other."""
LEAST_COSINE = 0.999
"""Embeddings agree from here on."""


class Measure(enum.Enum):
    """What is compared. Higher is worse for the first, better for the others."""

    TENSOR_MAX_ABS_DIFF = "tensor_max_abs_diff"
    EMBEDDING_COSINE = "embedding_cosine"
    TOKEN_AGREEMENT = "token_agreement"  # noqa: S105  # a measure
    JSON_EQUAL = "json_equal"


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """One pair of answers. value: infinite where tensors cannot be laid over each other."""

    measure: Measure
    value: float
    agrees: bool


def compare_arrays(primary: Sequence[NDArray[Any]], shadow: Sequence[NDArray[Any]]) -> Comparison:
    """The greatest difference of any two numbers in the same place.

    Two NaN in the same place are equal. Arrays of another count or shape agree in nothing;
    texts (dtype object) differ by 1 or not at all.
    """
    measure = Measure.TENSOR_MAX_ABS_DIFF
    if [one.shape for one in primary] != [other.shape for other in shadow]:
        return Comparison(measure, math.inf, agrees=False)
    pairs = [_array_difference(one, other) for one, other in zip(primary, shadow, strict=True)]
    value = max((difference for difference, _ in pairs), default=0.0)
    return Comparison(measure, value, all(agrees for _, agrees in pairs))


def compare_embeddings(primary: NDArray[Any], shadow: NDArray[Any]) -> Comparison:
    """The least cosine of the vectors of any text; arrays of (texts, dimensions).

    0 where the shapes differ: vectors of different widths have no angle.
    """
    measure = Measure.EMBEDDING_COSINE
    if primary.shape != shadow.shape:
        return Comparison(measure, 0.0, agrees=False)
    one, other = primary.astype(np.float64), shadow.astype(np.float64)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    both_zero = ~one.any(axis=1) & ~other.any(axis=1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        cosines = np.where(both_zero, 1.0, (one * other).sum(axis=1) / norms)
    value = float(np.nan_to_num(cosines, nan=0.0).min(initial=1.0))
    return Comparison(measure, value, value >= LEAST_COSINE)


def compare_tokens(primary: Sequence[object], shadow: Sequence[object]) -> Comparison:
    """The share of the longer sequence that both begin with; 1 if both are empty."""
    longest = max(len(primary), len(shadow))
    pairs = zip(primary, shadow, strict=False)
    equal = next((index for index, (one, other) in enumerate(pairs) if one != other), None)
    if equal is None:
        equal = min(len(primary), len(shadow))
    value = equal / longest if longest else 1.0
    return Comparison(Measure.TOKEN_AGREEMENT, value, equal == longest)


def compare_json(primary: object, shadow: object) -> Comparison:
    """1 if both documents are equal, else 0.

    The order of keys does not matter, nor whether a number is written 1 or 1.0; true is not 1.
    Raises RecursionError for documents that are nested hundreds of levels deep.
    """
    is_equal = _same_json(primary, shadow)
    return Comparison(Measure.JSON_EQUAL, float(is_equal), is_equal)


def _array_difference(one: NDArray[Any], other: NDArray[Any]) -> tuple[float, bool]:
    if one.size == 0:
        return 0.0, True
    if "O" in (one.dtype.kind, other.dtype.kind):
        is_equal = one.dtype == other.dtype and bool((one == other).all())
        return float(not is_equal), is_equal
    left, right = (np.atleast_1d(array).astype(np.float64) for array in (one, other))
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(left - right)
        difference[(left == right) | (np.isnan(left) & np.isnan(right))] = 0.0
        difference[np.isnan(difference)] = math.inf
        allowed = ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * np.abs(left)
        agrees = bool(((difference == 0.0) | (np.isfinite(difference) & (difference <= allowed))).all())
    return float(difference.max()), agrees


def _same_json(one: object, other: object) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same_json(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same_json, one, other))
    return one == other
