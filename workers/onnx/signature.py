"""What tensors a model takes and gives, and whether a request's tensors fit.

Owns names, datatypes, ranks and fixed sizes. Does not run anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from inference_mesh.errors import InvalidInputError
from inference_mesh.v1 import inference_pb2, payload_pb2

DATATYPE_OF_ONNX: Mapping[str, str] = {
    "tensor(bool)": "BOOL",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
"""Datatype of each type of tensor; others (bfloat16, sequences, maps) have none."""


@dataclasses.dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output. shape: -1 = any size; empty = a scalar or of unknown rank."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def is_batched(self) -> bool:
        """True if the first dimension may have any size."""
        return bool(self.shape) and self.shape[0] == -1

    def spec(self) -> payload_pb2.TensorSpec:
        """The same as a message."""
        return payload_pb2.TensorSpec(name=self.name, datatype=self.datatype, shape=self.shape)


@dataclasses.dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of a model, by name, in the model's order."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]

    @property
    def is_batched(self) -> bool:
        """True if every input and output has a first dimension of any size."""
        return all(info.is_batched for info in (*self.inputs.values(), *self.outputs.values()))

    def describe(self, model: inference_pb2.Model) -> None:
        """Write the inputs and outputs into the model's description."""
        model.inputs.extend(info.spec() for info in self.inputs.values())
        model.outputs.extend(info.spec() for info in self.outputs.values())

    def check_inputs(self, tensors: Sequence[payload_pb2.Tensor]) -> None:
        """Raises InvalidInputError unless the tensors are the model's inputs, each once."""
        names = [tensor.name for tensor in tensors]
        _check_names(names, self.inputs, "input")
        missing = [name for name in self.inputs if name not in names]
        if missing:
            raise InvalidInputError(
                f"input '{missing[0]}' is missing; the model takes {_listed(self.inputs)}"
            )
        for tensor in tensors:
            _check_tensor(tensor, self.inputs[tensor.name])

    def chosen_outputs(self, requested: Sequence[str]) -> tuple[str, ...]:
        """The outputs to compute, in order; all if none is requested. Raises InvalidInputError."""
        _check_names(requested, self.outputs, "output")
        return tuple(requested) or tuple(self.outputs)


def _check_names(names: Sequence[str], known: Mapping[str, TensorInfo], role: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name not in known:
            raise InvalidInputError(f"unknown {role} '{name[:64]}'; the model has {_listed(known)}")
        if name in seen:
            raise InvalidInputError(f"{role} '{name}' is named twice")
        seen.add(name)


def _check_tensor(tensor: payload_pb2.Tensor, info: TensorInfo) -> None:
    if tensor.datatype != info.datatype:
        raise InvalidInputError(
            f"input '{info.name}': datatype '{tensor.datatype[:16]}'; the model takes {info.datatype}"
        )
    if not info.shape:
        return
    fits = len(tensor.shape) == len(info.shape) and all(
        allowed in (-1, size) for size, allowed in zip(tensor.shape, info.shape, strict=True)
    )
    if not fits:
        raise InvalidInputError(
            f"input '{info.name}': shape {list(tensor.shape)[:8]}; "
            f"the model takes {list(info.shape)} (-1 = any size)"
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
