"""Open Inference messages to payloads and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inference_mesh import tensors
from inference_mesh.errors import InvalidInputError, UnsupportedError
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.v1 import inference_pb2, payload_pb2
from workers import open_inference_codec as codec

MODEL = inference_pb2.Model(name="m", version="1", task=payload_pb2.TASK_EMBED, dimensions=2)


def _typed(datatype: str, field: str, values: list[Any], name: str = "x") -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="m", id="mine")
    entry = request.inputs.add(name=name, datatype=datatype, shape=[len(values)])
    getattr(entry.contents, field).extend(values)
    return request


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT16", "int_contents", [-32768, 32767]),
        ("INT32", "int_contents", [-(2**31), 2**31 - 1]),
        ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("UINT8", "uint_contents", [0, 255]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("UINT32", "uint_contents", [0, 2**32 - 1]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP32", "fp32_contents", [0.5, -1.0]),
        ("FP64", "fp64_contents", [0.1, -1.0]),
        ("BYTES", "bytes_contents", [b"", b"abc"]),
    ],
)
def test_typed_contents_of_every_datatype_keep_their_values(
    datatype: str, field: str, values: list[Any]
) -> None:
    payload = codec.payload_of(_typed(datatype, field, values), payload_pb2.TASK_TENSORS)
    assert tensors.to_array(payload.tensors.tensors[0]).tolist() == values


@pytest.mark.parametrize(
    "request_",
    [
        _typed("INT8", "int_contents", [300]),
        _typed("UINT8", "uint_contents", [256]),
        _typed("FP16", "fp32_contents", [1.0]),
        _typed("", "fp32_contents", [1.0]),
    ],
    ids=["INT8 over", "UINT8 over", "FP16 is raw only", "no datatype"],
)
def test_typed_contents_that_do_not_fit_are_invalid(request_: oip.ModelInferRequest) -> None:
    with pytest.raises(InvalidInputError):
        codec.payload_of(request_, payload_pb2.TASK_TENSORS)


def test_wanted_outputs_are_passed_on() -> None:
    request = _typed("FP32", "fp32_contents", [1.0])
    request.outputs.add(name="label")
    assert codec.payload_of(request, payload_pb2.TASK_TENSORS).tensors.outputs == ["label"]


@pytest.mark.parametrize("name", codec.TEXT_INPUTS)
def test_text_comes_in_under_any_of_its_names(name: str) -> None:
    request = _typed("BYTES", "bytes_contents", ["Grüße".encode()], name)
    assert codec.payload_of(request, payload_pb2.TASK_GENERATE).generate.prompt == "Grüße"
    assert codec.payload_of(request, payload_pb2.TASK_EMBED).embed.texts == ["Grüße"]


def test_parameters_become_fields_and_those_of_the_protocol_do_not() -> None:
    request = _typed("BYTES", "bytes_contents", [b"hi"], "text_input")
    request.parameters["max_tokens"].int64_param = 7
    request.parameters["temperature"].double_param = 0.5
    for name in (*codec.RESERVED_PARAMETERS, "triton_anything"):
        request.parameters[name].int64_param = 1
    generate = codec.payload_of(request, payload_pb2.TASK_GENERATE).generate
    assert (generate.max_tokens, generate.sampling.temperature) == (7, 0.5)


@pytest.mark.parametrize(
    "request_",
    [
        _typed("BYTES", "bytes_contents", [b"a", b"b"], "text_input"),
        _typed("BYTES", "bytes_contents", [b"\xff"], "text_input"),
        _typed("FP32", "fp32_contents", [1.0], "text_input"),
        _typed("BYTES", "bytes_contents", [b"a"], "other"),
        oip.ModelInferRequest(),
    ],
    ids=["two prompts", "not UTF-8", "no BYTES", "another name", "no input"],
)
def test_what_is_not_one_text_is_invalid_for_generate(request_: oip.ModelInferRequest) -> None:
    with pytest.raises(InvalidInputError):
        codec.payload_of(request_, payload_pb2.TASK_GENERATE)


def test_a_task_without_a_form_here_is_unsupported() -> None:
    request = _typed("BYTES", "bytes_contents", [b"a"], "text_input")
    with pytest.raises(UnsupportedError):
        codec.payload_of(request, payload_pb2.TASK_RERANK)


def test_embeddings_go_out_as_rows_of_fp32() -> None:
    rows = np.array([[1, 2], [3, 4], [5, 6]], "<f4")
    output = payload_pb2.Output(embed=payload_pb2.Embeddings(dimensions=2, values=rows.tobytes()))
    response = codec.response_of(_typed("FP32", "fp32_contents", []), MODEL, output)
    assert (response.id, response.model_name, response.model_version) == ("mine", "m", "1")
    assert (response.outputs[0].name, list(response.outputs[0].shape)) == ("embedding", [3, 2])
    assert np.frombuffer(response.raw_output_contents[0], "<f4").reshape(3, 2).tolist() == rows.tolist()


def test_a_text_models_metadata_shows_its_text_form() -> None:
    shown = codec.metadata_of(MODEL)
    assert [(one.name, one.datatype) for one in shown.inputs] == [("text_input", "BYTES")]
    assert [(one.name, list(one.shape)) for one in shown.outputs] == [("embedding", [-1, 2])]
    assert shown.properties["task"] == "embed"


CHAT_MODEL = inference_pb2.Model(name="m", task=payload_pb2.TASK_GENERATE)


def test_several_answers_are_as_many_texts_and_a_piece_says_which_it_is_of() -> None:
    request = _typed("BYTES", "bytes_contents", [b"hi"], "text_input")
    first = payload_pb2.Generated(text="a", others=[payload_pb2.Generated(text="bc", index=1)])
    whole = codec.response_of(request, CHAT_MODEL, payload_pb2.Output(generate=first))
    assert (list(whole.outputs[0].shape), "index" in whole.parameters) == ([2], False)
    assert whole.raw_output_contents[0] == b"\x01\0\0\0a\x02\0\0\0bc"
    piece = payload_pb2.Output(generate=payload_pb2.Generated(text="b", index=1))
    assert codec.response_of(request, CHAT_MODEL, piece).parameters["index"].int64_param == 1


def test_log_probabilities_have_no_form() -> None:
    request = _typed("BYTES", "bytes_contents", [b"hi"], "text_input")
    request.parameters["top_logprobs"].int64_param = 2
    with pytest.raises(UnsupportedError):
        codec.payload_of(request, payload_pb2.TASK_GENERATE)
