"""Tensors of the two forms of this protocol: typed contents and raw bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.checks import NotApplicableError, expect, expect_same
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.tensors import DATATYPES

FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where typed contents of a datatype stand; FP16 and BF16 have no such form."""

Spec = oip.ModelMetadataResponse.TensorMetadata


def sample_of(spec: Spec) -> NDArray[Any]:
    """Numbers 0, 1, 0, 1 … of a shape whose free sizes are 1; the text "a" for BYTES."""
    shape = tuple(1 if size < 0 else size for size in spec.shape)
    if spec.datatype == "BYTES":
        return np.full(shape, b"a", dtype=object)
    if spec.datatype not in DATATYPES:
        raise NotApplicableError(f"input '{spec.name}' is {spec.datatype}, which these checks cannot write")
    return (np.arange(int(np.prod(shape))) % 2).astype(DATATYPES[spec.datatype]).reshape(shape)


def raw_request(model: oip.ModelMetadataResponse) -> oip.ModelInferRequest:
    """A request with raw contents that fits what the model describes."""
    request = oip.ModelInferRequest(model_name=model.name, id="conformance-1")
    for spec in model.inputs:
        array = sample_of(spec)
        request.inputs.add(name=spec.name, datatype=spec.datatype, shape=array.shape)
        request.raw_input_contents.append(raw_of(array))
    return request


def typed_request(model: oip.ModelMetadataResponse) -> oip.ModelInferRequest:
    """The same with typed contents. Raises NotApplicableError if an input's datatype has none."""
    request = oip.ModelInferRequest(model_name=model.name, id="conformance-1")
    for spec in model.inputs:
        if spec.datatype not in FIELDS:
            raise NotApplicableError(f"input '{spec.name}' is {spec.datatype}, which has no typed contents")
        array = sample_of(spec)
        tensor = request.inputs.add(name=spec.name, datatype=spec.datatype, shape=array.shape)
        getattr(tensor.contents, FIELDS[spec.datatype]).extend(array.reshape(-1).tolist())
    return request


def raw_of(array: NDArray[Any]) -> bytes:
    """Raw bytes: row-major, little-endian; of texts each with its length before it."""
    if array.dtype == object:
        return b"".join(len(one).to_bytes(4, "little") + one for one in array.reshape(-1))
    return array.tobytes()


def arrays_of(answer: oip.ModelInferResponse) -> dict[str, NDArray[Any]]:
    """The outputs of an answer by name, in whichever form it has. Raises BreachError if they do not fit."""
    raw = list(answer.raw_output_contents)
    if raw:
        expect_same(len(raw), len(answer.outputs), "number of raw_output_contents")
    found: dict[str, NDArray[Any]] = {}
    for place, tensor in enumerate(answer.outputs):
        values = _unpacked(tensor, raw[place]) if raw else _typed(tensor)
        wanted = int(np.prod(list(tensor.shape)))
        expect_same(len(values), wanted, f"number of values of output '{tensor.name}'")
        found[tensor.name] = values.reshape(tuple(tensor.shape))
    return found


def _typed(tensor: oip.ModelInferResponse.InferOutputTensor) -> NDArray[Any]:
    expect(tensor.datatype in FIELDS, f"output '{tensor.name}' is {tensor.datatype} in typed contents")
    values = list(getattr(tensor.contents, FIELDS[tensor.datatype]))
    return np.array(values, dtype=DATATYPES[tensor.datatype])


def _unpacked(tensor: oip.ModelInferResponse.InferOutputTensor, raw: bytes) -> NDArray[Any]:
    others = [name for name in set(FIELDS.values()) if len(getattr(tensor.contents, name))]
    expect(not others, f"output '{tensor.name}' has raw and typed contents")
    if tensor.datatype != "BYTES":
        return np.frombuffer(raw, dtype=DATATYPES[tensor.datatype])
    texts: list[bytes] = []
    at = 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        expect(at + 4 + size <= len(raw), f"a text of output '{tensor.name}' is longer than its bytes")
        texts.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    return np.array([*texts, None], dtype=object)[:-1]
