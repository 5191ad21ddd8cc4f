"""A request of `POST /v2/models/{model}/infer`, from JSON and bytes to the gRPC form. Pure.

Source: Open Inference Protocol v2 (REST), with Triton's binary tensor data extension.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference_mesh import strict_json, tensors
from inference_mesh.errors import InvalidInputError
from inference_mesh.oip import open_inference_pb2 as oip
from rest_bridge.fields import Fields
from rest_bridge.open_inference.binary import Body, cut

BINARY_SIZE = "binary_data_size"
BINARY = "binary_data"
BINARY_OUTPUT = "binary_data_output"
LARGEST_INTEGER = 2**63


@dataclass(frozen=True)
class Wanted:
    """Which outputs are to come as bytes: those named, and of all others what `rest` says."""

    named: Mapping[str, bool]
    rest: bool

    def as_bytes(self, output: str) -> bool:
        """True if this output is to come as bytes."""
        return self.named.get(output, self.rest)


def request_of(body: Body, model: str, version: str) -> tuple[oip.ModelInferRequest, Wanted]:
    """The request, and in which form its outputs are wanted. Raises InvalidInputError."""
    document = strict_json.loads(body.json)
    if not isinstance(document, dict):
        raise InvalidInputError("the body must be a JSON object")
    fields = Fields(document)
    request = oip.ModelInferRequest(
        model_name=model, model_version=version, id=fields.text("id", longest=128)
    )
    inputs = fields.objects("inputs")
    if not inputs:
        raise fields.wrong("inputs", "a list of at least one tensor")
    _add_inputs(request, inputs, body.tensors)
    named = {}
    for output in fields.objects("outputs"):
        name = output.required_text("name")
        request.outputs.add(name=name)
        parameters = output.nested("parameters")
        if parameters is not None and BINARY in parameters:
            named[name] = parameters.flag(BINARY)
    parameters = fields.nested("parameters")
    _set_parameters(request, parameters)
    return request, Wanted(named, rest=parameters is not None and parameters.flag(BINARY_OUTPUT))


def raw_request(
    data: bytes, metadata: oip.ModelMetadataResponse, model: str, version: str
) -> oip.ModelInferRequest:
    """The request of a body that is one tensor and nothing else, for a model with one input.

    A BYTES input gets the body as one element. Raises InvalidInputError if the model has several
    inputs, or if the body does not make up a shape of the one.
    """
    if len(metadata.inputs) != 1:
        raise InvalidInputError(
            f"a body without JSON needs a model of one input; this has {len(metadata.inputs)}"
        )
    (spec,) = metadata.inputs
    if spec.datatype == "BYTES":
        shape, data = [1] * max(1, len(spec.shape)), len(data).to_bytes(4, "little") + data
    else:
        shape = _shape(list(spec.shape), len(data) // tensors.DATATYPES[spec.datatype].itemsize)
    request = oip.ModelInferRequest(model_name=model, model_version=version)
    request.inputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
    request.raw_input_contents.append(data)
    return request


def _shape(shape: list[int], count: int) -> list[int]:
    """The shape with its one free size found. Raises InvalidInputError if more are free."""
    free = [axis for axis, size in enumerate(shape) if size < 0]
    if len(free) > 1:
        raise InvalidInputError(f"a body without JSON cannot tell the sizes of shape {shape}")
    known = 1
    for size in shape:
        known *= max(1, size)
    for axis in free:
        shape[axis] = count // known
    return shape


def _add_inputs(request: oip.ModelInferRequest, inputs: list[Fields], data: bytes) -> None:
    sizes = [_binary_size(entry) for entry in inputs]
    parts = iter(cut(data, [size for size in sizes if size is not None]))
    for entry, size in zip(inputs, sizes, strict=True):
        if size is None:
            known = {name: entry[name] for name in ("name", "datatype", "shape", "data")}
            tensor = tensors.from_json(known)
            request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            request.raw_input_contents.append(tensor.data)
            continue
        request.inputs.add(
            name=entry.required_text("name"), datatype=entry.required_text("datatype"), shape=_sizes(entry)
        )
        request.raw_input_contents.append(next(parts))


def _binary_size(entry: Fields) -> int | None:
    parameters = entry.nested("parameters")
    return None if parameters is None else parameters.integer(BINARY_SIZE, 0, LARGEST_INTEGER)


def _sizes(entry: Fields) -> list[int]:
    shape = entry.items("shape")
    if not all(type(size) is int and 0 <= size < LARGEST_INTEGER for size in shape):
        raise entry.wrong("shape", "a list of sizes")
    return shape


def _set_parameters(request: oip.ModelInferRequest, parameters: Fields | None) -> None:
    for name in parameters.names() if parameters is not None else ():
        if parameters is None or name == BINARY_OUTPUT:
            continue
        value: Any = parameters[name]
        if isinstance(value, bool):
            request.parameters[name].bool_param = value
        elif isinstance(value, int) and -LARGEST_INTEGER <= value < LARGEST_INTEGER:
            request.parameters[name].int64_param = value
        elif isinstance(value, str):
            request.parameters[name].string_param = value
        elif isinstance(value, float):
            request.parameters[name].double_param = value
        elif value is not None:
            raise parameters.wrong(name, "a text, a number, true or false")
