"""Whether a request's tensors fit a model's."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from inference_mesh.errors import InvalidInputError
from inference_mesh.tensors import DATATYPES
from inference_mesh.v1 import payload_pb2
from workers.onnx.signature import DATATYPE_OF_ONNX, Signature, TensorInfo

SIGNATURE = Signature(
    inputs={"a": TensorInfo("a", "FP32", (-1, 3)), "b": TensorInfo("b", "BYTES", ())},
    outputs={"y": TensorInfo("y", "FP32", (-1, 2)), "z": TensorInfo("z", "INT64", (-1,))},
)


def _tensor(name: str, datatype: str, shape: Sequence[int]) -> payload_pb2.Tensor:
    return payload_pb2.Tensor(name=name, datatype=datatype, shape=shape)


def test_every_datatype_of_the_protocol_has_a_type_in_onnx() -> None:
    assert set(DATATYPE_OF_ONNX.values()) == set(DATATYPES)


@pytest.mark.parametrize("shape_of_b", [[], [1], [2, 2]])
def test_an_input_of_unknown_rank_takes_any_shape(shape_of_b: list[int]) -> None:
    SIGNATURE.check_inputs([_tensor("a", "FP32", [7, 3]), _tensor("b", "BYTES", shape_of_b)])


@pytest.mark.parametrize(
    ("tensor", "named"),
    [
        (_tensor("c", "FP32", [1, 3]), ["'c'", "'a', 'b'"]),
        (_tensor("a", "FP64", [1, 3]), ["'a'", "FP64", "FP32"]),
        (_tensor("a", "FP32", [1, 4]), ["'a'", "[1, 4]", "[-1, 3]"]),
        (_tensor("a", "FP32", [3]), ["'a'", "[3]", "[-1, 3]"]),
        (_tensor("b", "BYTES", [1]), ["'b'", "twice"]),
    ],
)
def test_a_refusal_names_the_tensor_and_what_is_allowed(tensor: payload_pb2.Tensor, named: list[str]) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        SIGNATURE.check_inputs([_tensor("b", "BYTES", [1]), tensor])
    assert all(part in refusal.value.message for part in named)


def test_a_missing_input_is_named() -> None:
    with pytest.raises(InvalidInputError) as refusal:
        SIGNATURE.check_inputs([_tensor("a", "FP32", [1, 3])])
    assert "'b'" in refusal.value.message


def test_without_a_wish_all_outputs_are_chosen_in_the_models_order() -> None:
    assert SIGNATURE.chosen_outputs([]) == ("y", "z")
    assert SIGNATURE.chosen_outputs(["z", "y"]) == ("z", "y")


def test_a_signature_is_batched_if_every_first_dimension_is_free() -> None:
    assert not SIGNATURE.is_batched
    assert Signature({"a": SIGNATURE.inputs["a"]}, SIGNATURE.outputs).is_batched
    assert not Signature({"a": TensorInfo("a", "FP32", (1, 3))}, SIGNATURE.outputs).is_batched
