from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_mesh import strict_json
from inference_mesh.errors import InvalidInputError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_what_json_can_say_is_read_as_it_is(value: Any) -> None:
    assert strict_json.loads(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_give_a_document_or_a_typed_error(data: bytes) -> None:
    try:
        strict_json.loads(data)
    except InvalidInputError:
        return


def test_depth_at_the_limit_passes_and_one_more_is_refused() -> None:
    assert strict_json.loads(b"[" * 64 + b"]" * 64)
    with pytest.raises(InvalidInputError):
        strict_json.loads(b"[" * 65 + b"]" * 65)


def test_brackets_inside_texts_do_not_count_as_depth() -> None:
    document = {"a": "[[[[" * 100 + '"' + "{" * 100, "b": "\\"}
    assert strict_json.loads(json.dumps(document).encode()) == document


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 1_000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'"' + b'\\"' * 100_000,
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b"1" * 5_000,
        b'"\\ud800"',
        b'{"a":"\\',
        b"",
        b"\xff\xfe",
    ],
    ids=lambda data: repr(data[:12]),
)
def test_a_json_bomb_is_refused_within_50_ms_of_cpu(data: bytes) -> None:
    spent_s = []
    for _ in range(5):  # the quickest: a busy machine only adds
        started = time.process_time()
        with pytest.raises(InvalidInputError):
            strict_json.loads(data)
        spent_s.append(time.process_time() - started)
    assert min(spent_s) < 0.05
