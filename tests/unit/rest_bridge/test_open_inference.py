"""The Open Inference Protocol over REST: JSON and bytes to the gRPC form, and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest

from inference_mesh.errors import InvalidInputError, OverloadedError
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.v1 import inference_pb2, payload_pb2
from rest_bridge.event_stream import EventForm
from rest_bridge.fields import Fields
from rest_bridge.open_inference.answer import answer_of, metadata_of
from rest_bridge.open_inference.binary import HEADER, Body, body_of
from rest_bridge.open_inference.generate import read_generate, read_generate_stream
from rest_bridge.open_inference.request import Wanted, raw_request, request_of

JSON_ONLY = Wanted({}, rest=False)


def read(document: Any, tensors: bytes = b"") -> tuple[oip.ModelInferRequest, Wanted]:
    """The request of a body for model m."""
    return request_of(Body(orjson.dumps(document), tensors), "m", "3")


def tensor(name: str = "x", data: Any = (1.0, 2.0), **fields: Any) -> dict[str, Any]:
    """An input of two numbers."""
    return {"name": name, "datatype": "FP32", "shape": [2], "data": list(data), **fields}


def response(**outputs: Any) -> oip.ModelInferResponse:
    """A result with these arrays."""
    found = oip.ModelInferResponse(model_name="m", model_version="3", id="q")
    for name, array in outputs.items():
        datatype = {"f": "FP32", "i": "INT64"}[array.dtype.kind]
        found.outputs.add(name=name, datatype=datatype, shape=array.shape)
        found.raw_output_contents.append(array.tobytes())
    return found


def test_numbers_in_json_become_raw_contents() -> None:
    request, wanted = read({"id": "q", "inputs": [tensor()]})
    assert (request.model_name, request.model_version, request.id) == ("m", "3", "q")
    assert list(request.inputs[0].shape) == [2]
    assert np.frombuffer(request.raw_input_contents[0], "<f4").tolist() == [1.0, 2.0]
    assert not wanted.as_bytes("anything")


def test_tensors_after_the_json_are_cut_by_their_sizes() -> None:
    sized = {"name": "a", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8}}
    other = {**sized, "name": "c", "parameters": {"binary_data_size": 16}, "shape": [2]}
    request, _ = read({"inputs": [sized, tensor("b"), other]}, b"A" * 8 + b"C" * 16)
    assert [one.name for one in request.inputs] == ["a", "b", "c"]
    assert (request.raw_input_contents[0], request.raw_input_contents[2]) == (b"A" * 8, b"C" * 16)


def test_parameters_keep_their_types() -> None:
    parameters = {"a": True, "b": 7, "c": "x", "d": 0.5, "e": None, "binary_data_output": True}
    request, wanted = read({"inputs": [tensor()], "parameters": parameters})
    kinds = {name: value.WhichOneof("parameter_choice") for name, value in request.parameters.items()}
    assert kinds == {"a": "bool_param", "b": "int64_param", "c": "string_param", "d": "double_param"}
    assert wanted.as_bytes("anything")


def test_an_output_says_its_own_form_before_the_request_does() -> None:
    outputs = [{"name": "a", "parameters": {"binary_data": False}}, {"name": "b"}]
    request, wanted = read(
        {"inputs": [tensor()], "outputs": outputs, "parameters": {"binary_data_output": True}}
    )
    assert [output.name for output in request.outputs] == ["a", "b"]
    assert (wanted.as_bytes("a"), wanted.as_bytes("b")) == (False, True)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"inputs": []},
        {"inputs": "x"},
        {"inputs": [{"name": "x"}]},
        {"inputs": [tensor(shape=[3])]},
        {"inputs": [tensor(datatype="FP31")]},
        {"inputs": [tensor(parameters={"binary_data_size": -1})]},
        {"inputs": [tensor(parameters={"binary_data_size": 8})]},
        {"inputs": [tensor()], "outputs": [{}]},
        {"inputs": [tensor()], "parameters": {"a": []}},
        {"inputs": [tensor()], "id": 7},
    ],
)
def test_a_body_that_is_wrong_is_refused(document: Any) -> None:
    with pytest.raises(InvalidInputError):
        read(document)


@pytest.mark.parametrize("header", ["x", "-1", "4", "1e0", "", "999999999999"])
def test_a_length_of_json_that_is_none_is_refused(header: str) -> None:
    with pytest.raises(InvalidInputError):
        body_of(b"{}", header)


def test_the_header_parts_json_from_tensors() -> None:
    assert body_of(b"{}AB", "2") == Body(b"{}", b"AB")
    assert body_of(b"{}AB", None) == Body(b"{}AB", b"")
    assert body_of(b"AB", "0") == Body(b"", b"AB")


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "expected"),
    [
        ("FP32", [-1, 4], b"\0" * 32, [2, 4]),
        ("FP32", [2, 4], b"\0" * 32, [2, 4]),
        ("BYTES", [-1], b"hello", [1]),
    ],
)
def test_a_body_without_json_is_the_models_one_input(
    datatype: str, shape: list[int], data: bytes, expected: list[int]
) -> None:
    metadata = oip.ModelMetadataResponse()
    metadata.inputs.add(name="x", datatype=datatype, shape=shape)
    request = raw_request(data, metadata, "m", "")
    assert list(request.inputs[0].shape) == expected
    assert request.raw_input_contents[0].endswith(data)


def test_a_body_without_json_needs_one_input_and_one_free_size() -> None:
    metadata = oip.ModelMetadataResponse()
    metadata.inputs.add(name="x", datatype="FP32", shape=[-1, -1])
    with pytest.raises(InvalidInputError):
        raw_request(b"\0" * 8, metadata, "m", "")
    metadata.inputs.add(name="y", datatype="FP32", shape=[-1])
    with pytest.raises(InvalidInputError):
        raw_request(b"\0" * 8, metadata, "m", "")


def test_an_answer_is_json_unless_bytes_are_wanted() -> None:
    found = response(a=np.array([1.5], "<f4"), b=np.array([7], "<i8"))
    plain = json.loads(bytes(answer_of(found, JSON_ONLY).body))
    assert plain == {
        "model_name": "m",
        "model_version": "3",
        "id": "q",
        "outputs": [
            {"name": "a", "datatype": "FP32", "shape": [1], "data": [1.5]},
            {"name": "b", "datatype": "INT64", "shape": [1], "data": [7]},
        ],
    }
    mixed = answer_of(found, Wanted({"b": True}, rest=False))
    length = int(mixed.headers[HEADER])
    head = json.loads(bytes(mixed.body)[:length])
    assert head["outputs"][0]["data"] == [1.5]
    assert head["outputs"][1]["parameters"] == {"binary_data_size": 8}
    assert bytes(mixed.body)[length:] == (7).to_bytes(8, "little")


def test_metadata_lists_what_goes_in_and_comes_out() -> None:
    metadata = oip.ModelMetadataResponse(name="m", versions=["3"], platform="onnxruntime_onnx")
    metadata.inputs.add(name="x", datatype="FP32", shape=[-1, 4])
    assert metadata_of(metadata) == {
        "name": "m",
        "versions": ["3"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [],
    }


def test_generate_takes_parameters_nested_or_beside_the_text() -> None:
    body = {
        "model": "m", "version": "3", "text_input": "Once", "stream": False, "max_tokens": 4,
        "parameters": {"temperature": 0, "stop_words": ["."], "random_seed": 7},
    }  # fmt: skip
    asked = read_generate(Fields(body), "r1")
    generate = asked.payloads[0].generate
    assert (asked.model, asked.version, generate.prompt, generate.max_tokens) == ("m", "3", "Once", 4)
    assert (list(generate.stop), generate.sampling.seed) == (["."], 7)
    answer = inference_pb2.InferResponse(model="m", version="3")
    answer.output.generate.text = " upon"
    expected = {"id": "r1", "model_name": "m", "model_version": "3", "text_output": " upon"}
    assert asked.document([answer]) == expected


@pytest.mark.parametrize(
    "fields",
    [{}, {"text_input": 7}, {"text_input": "x", "unheard_of": 1}, {"text_input": "x", "parameters": 1}],
)
def test_a_generate_that_is_wrong_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        read_generate(Fields({"model": "m", **fields}), "r1")


def test_a_streamed_text_is_a_document_for_each_piece_and_no_done() -> None:
    form: EventForm | None = read_generate_stream(Fields({"model": "m", "text_input": "x"}), "r1").events
    assert form is not None
    first = inference_pb2.InferStreamResponse(model="m", version="3")
    piece = inference_pb2.InferStreamResponse(
        output=payload_pb2.Output(generate=payload_pb2.Generated(text="a"))
    )
    assert form.events_of(first) == b""
    assert json.loads(form.events_of(piece).removeprefix(b"data: "))["text_output"] == "a"
    assert form.end() == b""
    failed = form.failure(OverloadedError("full"), None)
    assert json.loads(failed.removeprefix(b"data: ")) == {"error": "full"}
