"""The pure rules of a call: which payload a model takes, and why a call was cut off."""

from __future__ import annotations

import pytest

from inference_mesh.errors import InvalidInputError, PayloadMismatchError
from inference_mesh.v1 import inference_pb2, payload_pb2
from workers.calls import code_of_end
from workers.task_check import check_kind, kinds_of

TEXT_MODEL = inference_pb2.Model(task=payload_pb2.TASK_GENERATE)
ONNX_EMBEDDER = inference_pb2.Model(
    task=payload_pb2.TASK_EMBED, inputs=[payload_pb2.TensorSpec(name="input_ids", datatype="INT64")]
)
TENSORS = payload_pb2.Payload(tensors=payload_pb2.Tensors())
EMBED = payload_pb2.Payload(embed=payload_pb2.Embed(texts=["a"]))
GENERATE = payload_pb2.Payload(generate=payload_pb2.Generate(prompt="a"))
JSON = payload_pb2.Payload(json=b"{}")


@pytest.mark.parametrize(
    ("payload", "model"), [(GENERATE, TEXT_MODEL), (EMBED, ONNX_EMBEDDER), (TENSORS, ONNX_EMBEDDER)]
)
def test_a_model_takes_its_own_kind_and_tensors_where_its_inputs_have_names(
    payload: payload_pb2.Payload, model: inference_pb2.Model
) -> None:
    check_kind(payload, model)


@pytest.mark.parametrize(
    ("payload", "model"),
    [(EMBED, TEXT_MODEL), (TENSORS, TEXT_MODEL), (GENERATE, ONNX_EMBEDDER), (JSON, TEXT_MODEL)],
)
def test_any_other_kind_is_a_mismatch_that_names_both(
    payload: payload_pb2.Payload, model: inference_pb2.Model
) -> None:
    with pytest.raises(PayloadMismatchError) as caught:
        check_kind(payload, model)
    assert str(payload.WhichOneof("kind")) in caught.value.message
    assert kinds_of(model)[0] in caught.value.message


def test_a_payload_without_a_kind_is_invalid_and_not_a_mismatch() -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_kind(payload_pb2.Payload(), TEXT_MODEL)
    assert type(caught.value) is InvalidInputError


def test_a_tensors_model_names_its_kind_once() -> None:
    model = inference_pb2.Model(task=payload_pb2.TASK_TENSORS, inputs=ONNX_EMBEDDER.inputs)
    assert kinds_of(model) == ("tensors",)


@pytest.mark.parametrize(
    ("deadline", "ended", "expected"),
    [
        (None, 1e6, "CANCELLED"),
        (110.0, 101.0, "CANCELLED"),
        (110.0, 110.0, "DEADLINE_EXCEEDED"),
        (110.0, 109.91, "DEADLINE_EXCEEDED"),
        (110.0, 109.8, "CANCELLED"),
        (100.2, 100.19, "DEADLINE_EXCEEDED"),
    ],
)
def test_what_ends_at_its_deadline_or_just_before_has_passed_it(
    deadline: float | None, ended: float, expected: str
) -> None:
    assert code_of_end(deadline, 100.0, ended) == expected
