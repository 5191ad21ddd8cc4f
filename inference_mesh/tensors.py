"""Tensors between three forms: the wire's raw bytes, numpy arrays and JSON lists.

Raw bytes are row-major and little-endian without padding; BYTES elements are a 4-byte
little-endian length and then the bytes. Source: Open Inference Protocol v2, "raw" contents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference_mesh.errors import InvalidInputError
from inference_mesh.v1 import payload_pb2

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
"""numpy's type of each datatype; BYTES is an object array of `bytes`."""

MAX_RANK = 32


def to_array(tensor: payload_pb2.Tensor) -> NDArray[Any]:
    """The tensor as an array of its shape; it may share the message's memory (read-only).

    Raises InvalidInputError for an unknown datatype, a negative or too large shape, or data
    of another size than the shape needs.
    """
    dtype, count = _expected(tensor.name, tensor.datatype, tensor.shape)
    if tensor.datatype == "BYTES":
        flat = _split_bytes(tensor.name, tensor.data, count)
        return flat.reshape(tuple(tensor.shape))
    needed = count * dtype.itemsize
    if len(tensor.data) != needed:
        raise InvalidInputError(
            f"tensor '{tensor.name}': {tensor.datatype} of shape {list(tensor.shape)} needs {needed} bytes, "
            f"got {len(tensor.data)}"
        )
    if tensor.datatype == "BOOL":
        truths: NDArray[Any] = np.frombuffer(tensor.data, dtype=np.uint8) != 0
        return truths.reshape(tuple(tensor.shape))
    return np.frombuffer(tensor.data, dtype=dtype).reshape(tuple(tensor.shape))


def from_array(name: str, array: NDArray[Any]) -> payload_pb2.Tensor:
    """The tensor of an array. Raises InvalidInputError if no datatype fits its dtype."""
    datatype = datatype_of(array.dtype)
    if datatype == "BYTES":
        data = b"".join(_length_prefixed(element) for element in array.reshape(-1))
    else:
        data = np.ascontiguousarray(array, dtype=DATATYPES[datatype]).tobytes()
    return payload_pb2.Tensor(name=name, datatype=datatype, shape=array.shape, data=data)


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The datatype of a numpy dtype. Raises InvalidInputError if there is none."""
    if dtype.kind in "OSU":
        return "BYTES"
    for datatype, candidate in DATATYPES.items():
        if candidate == dtype.newbyteorder("<"):
            return datatype
    raise InvalidInputError(f"dtype {dtype} has no datatype; allowed are {', '.join(DATATYPES)}")


def from_json(document: object) -> payload_pb2.Tensor:
    """The tensor of `{"name", "datatype", "shape", "data"}`; data is flat or nested lists.

    BYTES elements are texts. Raises InvalidInputError naming the tensor and what is wrong.
    """
    if not isinstance(document, dict):
        raise InvalidInputError("a tensor is an object with name, datatype, shape and data")
    unknown = sorted(set(document) - {"name", "datatype", "shape", "data"})
    if unknown:
        raise InvalidInputError(
            f"tensor: unknown key '{unknown[0]}'; allowed are name, datatype, shape, data"
        )
    name, datatype, shape = document.get("name"), document.get("datatype"), document.get("shape")
    if not isinstance(name, str) or not name:
        raise InvalidInputError("tensor: 'name' must be a text that is not empty")
    if not isinstance(datatype, str):
        raise InvalidInputError(f"tensor '{name}': 'datatype' must be one of {', '.join(DATATYPES)}")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise InvalidInputError(f"tensor '{name}': 'shape' must be a list of integers")
    dtype, count = _expected(name, datatype, shape)
    values = _flat(document.get("data"))
    if len(values) != count:
        raise InvalidInputError(f"tensor '{name}': shape {shape} needs {count} values, got {len(values)}")
    array = _checked_array(name, datatype, dtype, values)
    return from_array(name, array.reshape(shape))


def to_json(tensor: payload_pb2.Tensor) -> dict[str, object]:
    """The tensor as `{"name", "datatype", "shape", "data"}`, data flat; BYTES as UTF-8 texts."""
    array = to_array(tensor).reshape(-1)
    values = (
        [element.decode("utf-8", "replace") for element in array]
        if tensor.datatype == "BYTES"
        else array.tolist()
    )
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": list(tensor.shape),
        "data": [_finite(value) for value in values] if tensor.datatype.startswith("FP") else values,
    }


def _expected(name: str, datatype: str, shape: Sequence[int]) -> tuple[np.dtype[Any], int]:
    """dtype and number of elements that a tensor must have."""
    if datatype not in DATATYPES:
        raise InvalidInputError(f"tensor '{name}': datatype '{datatype}'; allowed are {', '.join(DATATYPES)}")
    if len(shape) > MAX_RANK or any(not 0 <= size < 2**31 for size in shape):
        raise InvalidInputError(
            f"tensor '{name}': shape {list(shape)[:8]}; allowed are up to {MAX_RANK} sizes of 0 or more"
        )
    return DATATYPES[datatype], math.prod(shape)


def _split_bytes(name: str, data: bytes, count: int) -> NDArray[Any]:
    elements: list[bytes] = []
    position = 0
    while position + 4 <= len(data):
        length = int.from_bytes(data[position : position + 4], "little")
        position += 4 + length
        if position > len(data):
            break
        elements.append(data[position - length : position])
    if position != len(data) or len(elements) != count:
        raise InvalidInputError(
            f"tensor '{name}': BYTES data must be {count} elements, each a 4-byte length and its bytes"
        )
    array = np.empty(count, dtype=object)
    array[:] = elements
    return array


def _length_prefixed(element: object) -> bytes:
    data = element if isinstance(element, bytes) else str(element).encode()
    return len(data).to_bytes(4, "little") + data


def _flat(data: object) -> list[Any]:
    """The values of flat or nested lists in row-major order."""
    if not isinstance(data, list):
        raise InvalidInputError("tensor: 'data' must be a list")
    values: list[Any] = data
    while any(isinstance(value, list) for value in values):
        if not all(isinstance(value, list) for value in values):
            raise InvalidInputError("tensor: 'data' mixes lists and values")
        values = [value for inner in values for value in inner]
    return values


def _checked_array(name: str, datatype: str, dtype: np.dtype[Any], values: list[Any]) -> NDArray[Any]:
    """The values as an array. Raises InvalidInputError for a wrong type or one out of range."""
    allowed: dict[str, tuple[type, ...]] = {"BOOL": (bool,), "BYTES": (str,)}
    types = allowed.get(datatype, (int, float) if datatype.startswith("FP") else (int,))
    for position, value in enumerate(values):
        if type(value) not in types:
            raise InvalidInputError(f"tensor '{name}': data[{position}] is not a value of {datatype}")
    if datatype == "BYTES":
        array = np.empty(len(values), dtype=object)
        array[:] = [value.encode() for value in values]
        return array
    numbers = _numbers(values, dtype)
    if numbers is None:
        raise InvalidInputError(f"tensor '{name}': a value is out of the range of {datatype}")
    return numbers


def _numbers(values: list[Any], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """The numbers as an array; None if one is out of range.

    JSON has no infinity, so one in the array was a number too large for its type.
    """
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, dtype=dtype)
    except (OverflowError, ValueError):
        return None
    return None if dtype.kind == "f" and not np.isfinite(array).all() else array


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity: they become null."""
    return value if math.isfinite(value) else None
