from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_mesh import tensors
from inference_mesh.errors import InvalidInputError
from inference_mesh.v1 import payload_pb2

NUMERIC = [name for name in tensors.DATATYPES if name != "BYTES"]


@pytest.mark.parametrize("datatype", NUMERIC)
def test_every_datatype_survives_the_wire_and_json(datatype: str) -> None:
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(tensors.DATATYPES[datatype])
    tensor = tensors.from_array("x", array)
    assert tensor.datatype == datatype
    np.testing.assert_array_equal(tensors.to_array(tensor), array)
    assert tensors.from_json(tensors.to_json(tensor)) == tensor


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_texts_of_any_bytes_survive_the_wire(elements: list[bytes]) -> None:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    assert tensors.to_array(tensors.from_array("x", array)).tolist() == elements


def test_big_endian_values_are_sent_little_endian() -> None:
    tensor = tensors.from_array("x", np.array([1], dtype=">i4"))
    assert tensor.data == b"\x01\x00\x00\x00"


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("FP32", [2], b"1234"),
        ("FP32", [-1], b"1234"),
        ("FP32", [2**40], b"1234"),
        ("FP31", [1], b"1234"),
        ("BYTES", [2], b"\x01\x00\x00\x00a"),
        ("BYTES", [1], b"\xff\xff\xff\xffa"),
        ("BYTES", [1], b"\x01\x00"),
        ("FP32", [1] * 33, b"1234"),
    ],
)
def test_data_that_does_not_fit_its_shape_is_refused(datatype: str, shape: list[int], data: bytes) -> None:
    with pytest.raises(InvalidInputError):
        tensors.to_array(payload_pb2.Tensor(name="x", datatype=datatype, shape=shape, data=data))


@pytest.mark.parametrize(
    "document",
    [
        "x",
        {"name": "x"},
        {"name": "", "datatype": "FP32", "shape": [1], "data": [1]},
        {"name": "x", "datatype": "FP32", "shape": [1], "data": ["1"]},
        {"name": "x", "datatype": "FP32", "shape": [2], "data": [1]},
        {"name": "x", "datatype": "FP32", "shape": [1], "data": [True]},
        {"name": "x", "datatype": "INT8", "shape": [1], "data": [300]},
        {"name": "x", "datatype": "FP32", "shape": [1], "data": [1e39]},
        {"name": "x", "datatype": "FP16", "shape": [1], "data": [1e5]},
        {"name": "x", "datatype": "INT8", "shape": [1], "data": [1.5]},
        {"name": "x", "datatype": "UINT8", "shape": [1], "data": [-1]},
        {"name": "x", "datatype": "BYTES", "shape": [1], "data": [1]},
        {"name": "x", "datatype": "FP32", "shape": [2], "data": [[1], 2]},
        {"name": "x", "datatype": "FP32", "shape": [1], "data": [1], "more": 1},
    ],
)
def test_a_json_tensor_that_is_wrong_is_refused(document: Any) -> None:
    with pytest.raises(InvalidInputError):
        tensors.from_json(document)


def test_nested_lists_are_read_in_row_major_order() -> None:
    tensor = tensors.from_json({"name": "x", "datatype": "INT32", "shape": [2, 2], "data": [[1, 2], [3, 4]]})
    assert tensors.to_json(tensor)["data"] == [1, 2, 3, 4]


def test_nan_becomes_null_in_json() -> None:
    tensor = tensors.from_array("x", np.array([np.nan, 1.0], dtype=np.float32))
    assert tensors.to_json(tensor)["data"] == [None, 1.0]
