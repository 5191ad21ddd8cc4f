"""Tensors of the two forms of this protocol: JSON data, and bytes after the JSON.

Source: Open Inference Protocol v2 (REST), and Triton's binary tensor data extension.
"""

from __future__ import annotations

import math
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from conformance.checks import BreachError, NotApplicableError, expect, expect_same
from conformance.http_answers import Json, document_of, expect_status, member
from inference_mesh.tensors import DATATYPES

HEADER = "inference-header-content-length"
JSON_DATATYPES = frozenset(DATATYPES) - {"FP16"}
"""What JSON data can hold. Of 16-bit floats Triton takes and gives bytes alone."""
KNOWN_DATATYPES = frozenset(DATATYPES) | {"BF16"}
NEAR = 1e-3
"""How far values may be apart, as a part of 1 + their size."""

Arrays = dict[str, NDArray[Any]]


def sample_of(spec: Json) -> NDArray[Any]:
    """Numbers 0, 1, 0, 1 … of a shape whose free sizes are 1; the text "a" for BYTES."""
    shape = tuple(1 if size < 0 else size for size in spec["shape"])
    if spec["datatype"] == "BYTES":
        return np.full(shape, "a", dtype=object)
    if spec["datatype"] not in DATATYPES:
        raise NotApplicableError(
            f"input '{spec['name']}' is {spec['datatype']}, which these checks cannot write"
        )
    return (np.arange(math.prod(shape)) % 2).astype(DATATYPES[spec["datatype"]]).reshape(shape)


def flat_request(model: Json) -> Json:
    """A request with flat JSON data that fits what the model describes."""
    return _request(model, [sample_of(spec).reshape(-1).tolist() for spec in model["inputs"]])


def nested_request(model: Json) -> Json:
    """The same with the data nested as the shape is."""
    return _request(model, [sample_of(spec).tolist() for spec in model["inputs"]])


def binary_request(model: Json) -> tuple[Json, bytes]:
    """The same with all data as bytes: the JSON, and what comes after it."""
    document = _request(model, [None for _ in model["inputs"]])
    parts = [_bytes_of(sample_of(spec)) for spec in model["inputs"]]
    for tensor, part in zip(document["inputs"], parts, strict=True):
        del tensor["data"]
        tensor["parameters"] = {"binary_data_size": len(part)}
    return document, b"".join(parts)


def arrays_of(response: httpx.Response) -> Arrays:
    """The outputs of an answer by name, in whichever form. Raises BreachError if they do not fit."""
    expect_status(response, 200)
    document, tail = parts_of(response)
    found: Arrays = {}
    for tensor in member(document, "outputs", list):
        values, tail = _values_of(tensor, tail)
        shape = tuple(member(tensor, "shape", list))
        expect_same(len(values), math.prod(shape), f"number of values of output '{tensor['name']}'")
        found[member(tensor, "name", str)] = values.reshape(shape)
    expect_same(len(tail), 0, "number of bytes that belong to no output")
    return found


def parts_of(response: httpx.Response) -> tuple[Json, bytes]:
    """The JSON of an answer, and the bytes after it."""
    length = response.headers.get(HEADER)
    if length is None:
        return document_of(response), b""
    expect(length.isdecimal(), f"{HEADER} is {length!r}")
    expect(int(length) <= len(response.content), f"{HEADER} is {length} of {len(response.content)} bytes")
    head = httpx.Response(response.status_code, content=response.content[: int(length)])
    return document_of(head), response.content[int(length) :]


def expect_near(found: Arrays, wanted: Arrays) -> None:
    """Raises BreachError unless both have the same names, shapes and, nearly, values."""
    expect_same(sorted(found), sorted(wanted), "names of outputs")
    for name, values in wanted.items():
        other = found[name]
        expect_same(other.shape, values.shape, f"shape of output '{name}'")
        if values.dtype == object:
            expect(bool((values == other).all()), f"output '{name}' has other texts")
            continue
        one, two = values.astype(float), other.astype(float)
        off = abs(one - two) / (1 + abs(one))
        expect(not off.size or float(off.max()) <= NEAR, f"output '{name}' is off by {float(off.max()):g}")


def _request(model: Json, data: list[Any]) -> Json:
    inputs = [
        {
            "name": spec["name"],
            "datatype": spec["datatype"],
            "shape": list(sample_of(spec).shape),
            "data": values,
        }
        for spec, values in zip(model["inputs"], data, strict=True)
    ]
    return {"id": "conformance-1", "inputs": inputs}


def _values_of(tensor: Json, tail: bytes) -> tuple[NDArray[Any], bytes]:
    """The flat values of an output, and the bytes that are left for the next."""
    name, datatype = tensor["name"], member(tensor, "datatype", str)
    if datatype not in DATATYPES:
        raise NotApplicableError(f"output '{name}' is {datatype}, which these checks cannot read")
    size = (tensor.get("parameters") or {}).get("binary_data_size")
    if size is None:
        return _of_json(name, datatype, member(tensor, "data", list)), tail
    expect("data" not in tensor, f"output '{name}' has data and binary_data_size")
    expect(size <= len(tail), f"output '{name}' is {size} bytes; {len(tail)} are left")
    return _of_bytes(datatype, tail[:size]), tail[size:]


def _of_json(name: str, datatype: str, data: list[Any]) -> NDArray[Any]:
    values = data
    while values and isinstance(values[0], list):
        values = [one for inner in values for one in inner]
    allowed: dict[str, tuple[type, ...]] = {"BOOL": (bool,), "BYTES": (str,)}
    kinds = allowed.get(datatype, (int, float) if datatype.startswith("FP") else (int,))
    wrong = [one for one in values if type(one) not in kinds]
    if wrong:
        raise BreachError(f"output '{name}' is {datatype} and has the value {wrong[0]!r}")
    return np.array([*values, None], dtype=object)[:-1].astype(DATATYPES[datatype])


def _bytes_of(array: NDArray[Any]) -> bytes:
    """Row-major, little-endian; of texts each with its length before it."""
    if array.dtype != object:
        return array.tobytes()
    texts = [str(one).encode() for one in array.reshape(-1)]
    return b"".join(len(one).to_bytes(4, "little") + one for one in texts)


def _of_bytes(datatype: str, data: bytes) -> NDArray[Any]:
    if datatype != "BYTES":
        return np.frombuffer(data, dtype=DATATYPES[datatype])
    texts: list[str] = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        expect(at + 4 + size <= len(data), "a text is longer than its bytes")
        texts.append(data[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return np.array([*texts, None], dtype=object)[:-1]
