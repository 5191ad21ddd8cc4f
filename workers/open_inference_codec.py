"""Open Inference Protocol messages to payloads and back. Pure.

Tensors models take tensors as they are. Text models take BYTES: `text_input`, `prompt` or
`text` in; `embedding` (FP32) or `text_output` (BYTES) out, so that tritonclient can embed and
generate. Source: Open Inference Protocol v2; Triton's generate extension for the names.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from inference_mesh import json_payload, tensors
from inference_mesh.errors import InvalidInputError, UnsupportedError
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.v1 import inference_pb2, payload_pb2

TEXT_INPUTS = ("text_input", "prompt", "text", "texts")
FINAL = "triton_final_response"
INDEX = "index"
"""Of several answers to one prompt, which one a piece of a stream is of; absent = the first."""
RESERVED_PARAMETERS = frozenset({"priority", "timeout", "headers", "binary_data_output"})
"""Parameters of the protocol itself, not of the model. `sequence_*` is refused: there is no state."""

WIDE = np.dtype(np.int64)

_CONTENTS = {
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

InputTensor = oip.ModelInferRequest.InferInputTensor


def payload_of(request: oip.ModelInferRequest, task: payload_pb2.Task) -> payload_pb2.Payload:
    """The payload of a request for a model of this task.

    Raises InvalidInputError for contents that do not fit their shape or datatype, or for both
    typed and raw contents; UnsupportedError for a task without an OIP form.
    """
    inputs = _tensors_of(request)
    if task == payload_pb2.TASK_TENSORS:
        wanted = [output.name for output in request.outputs]
        return payload_pb2.Payload(tensors=payload_pb2.Tensors(tensors=inputs, outputs=wanted))
    texts = _texts_of(inputs)
    if task == payload_pb2.TASK_EMBED:
        return json_payload.payload_from_json(task, {"texts": texts, **_parameters(request)})
    if task == payload_pb2.TASK_GENERATE:
        if len(texts) != 1:
            raise InvalidInputError(f"{TEXT_INPUTS[0]} has {len(texts)} elements; generate takes 1")
        payload = json_payload.payload_from_json(task, {"prompt": texts[0], **_parameters(request)})
        if payload.generate.HasField("top_logprobs"):
            raise UnsupportedError("top_logprobs has no form in this protocol; use Infer")
        return payload
    raise UnsupportedError(f"task {json_payload.task_name(task)} has no form in this protocol; use Infer")


def response_of(
    request: oip.ModelInferRequest, model: inference_pb2.Model, output: payload_pb2.Output
) -> oip.ModelInferResponse:
    """The response of an output, with raw contents."""
    response = oip.ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
    for tensor in _output_tensors(output):
        response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        response.raw_output_contents.append(tensor.data)
    if output.generate.index:
        response.parameters[INDEX].int64_param = output.generate.index
    return response


def metadata_of(model: inference_pb2.Model) -> oip.ModelMetadataResponse:
    """Inputs and outputs of a model; text models show their BYTES and FP32 form."""
    inputs, outputs = list(model.inputs), list(model.outputs)
    if model.task == payload_pb2.TASK_GENERATE:
        inputs = [payload_pb2.TensorSpec(name="text_input", datatype="BYTES", shape=[1])]
        outputs = [payload_pb2.TensorSpec(name="text_output", datatype="BYTES", shape=[1])]
    elif model.task == payload_pb2.TASK_EMBED:
        inputs = [payload_pb2.TensorSpec(name="text_input", datatype="BYTES", shape=[-1])]
        outputs = [payload_pb2.TensorSpec(name="embedding", datatype="FP32", shape=[-1, model.dimensions])]
    platform = {"onnxruntime": "onnxruntime_onnx", "llama.cpp": "llama_cpp"}.get(model.runtime, model.runtime)
    return oip.ModelMetadataResponse(
        name=model.name,
        versions=[model.version] if model.version else [],
        platform=platform,
        inputs=[_tensor_metadata(spec) for spec in inputs],
        outputs=[_tensor_metadata(spec) for spec in outputs],
        properties={"task": json_payload.task_name(model.task)},
    )


def _tensors_of(request: oip.ModelInferRequest) -> list[payload_pb2.Tensor]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidInputError(f"raw_input_contents has {len(raw)} entries for {len(request.inputs)} inputs")
    if raw and any(entry.HasField("contents") for entry in request.inputs):
        raise InvalidInputError("contents and raw_input_contents cannot be used together")
    if raw:
        return [_raw_tensor(entry, data) for entry, data in zip(request.inputs, raw, strict=True)]
    return [_typed_tensor(entry) for entry in request.inputs]


def _raw_tensor(entry: InputTensor, data: bytes) -> payload_pb2.Tensor:
    return payload_pb2.Tensor(name=entry.name, datatype=entry.datatype, shape=entry.shape, data=data)


def _typed_tensor(entry: InputTensor) -> payload_pb2.Tensor:
    field = _CONTENTS.get(entry.datatype)
    if field is None:
        raise InvalidInputError(
            f"tensor '{entry.name}': datatype '{entry.datatype}'; typed are {', '.join(_CONTENTS)}"
        )
    values = getattr(entry.contents, field)
    array = _array(entry, values)
    tensor = tensors.from_array(entry.name, array)
    return payload_pb2.Tensor(name=entry.name, datatype=entry.datatype, shape=entry.shape, data=tensor.data)


def _array(entry: InputTensor, values: Any) -> np.ndarray[Any, Any]:
    if entry.datatype == "BYTES":
        array = np.empty(len(values), dtype=object)
        array[:] = list(values)
        return array
    dtype = np.dtype(tensors.DATATYPES[entry.datatype])
    if dtype.kind not in "iu" or dtype.itemsize >= WIDE.itemsize:
        return np.array(values, dtype=dtype)
    # Fields hold 32 bits or more, and numpy would wrap what the datatype does not hold.
    wide, allowed = np.array(values, dtype=WIDE), np.iinfo(dtype)
    if wide.size and (wide.min() < allowed.min or wide.max() > allowed.max):
        raise InvalidInputError(
            f"tensor '{entry.name}': a value is out of range of {entry.datatype}; "
            f"allowed are {allowed.min} to {allowed.max}"
        )
    return wide.astype(dtype)


def _texts_of(inputs: list[payload_pb2.Tensor]) -> list[str]:
    named = [tensor for tensor in inputs if tensor.name in TEXT_INPUTS]
    if len(named) != 1 or len(inputs) != 1 or named[0].datatype != "BYTES":
        raise InvalidInputError(f"exactly one BYTES input is required, named {' or '.join(TEXT_INPUTS)}")
    try:
        return [element.decode() for element in tensors.to_array(named[0]).reshape(-1)]
    except UnicodeDecodeError:
        raise InvalidInputError(f"{named[0].name}: is not UTF-8") from None


def _parameters(request: oip.ModelInferRequest) -> dict[str, Any]:
    """Parameters of the request as fields of a JSON payload; the protocol's own are left out."""
    found: dict[str, Any] = {}
    for name, parameter in request.parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is not None and name not in RESERVED_PARAMETERS and not name.startswith("triton_"):
            found[name] = getattr(parameter, kind)
    return found


def _output_tensors(output: payload_pb2.Output) -> list[payload_pb2.Tensor]:
    kind = output.WhichOneof("kind")
    if kind == "tensors":
        return list(output.tensors.tensors)
    if kind == "embed":
        width = output.embed.dimensions
        shape = [len(output.embed.values) // (4 * max(width, 1)), width]
        return [payload_pb2.Tensor(name="embedding", datatype="FP32", shape=shape, data=output.embed.values)]
    if kind == "generate":
        answers = (output.generate, *output.generate.others)
        text = np.empty(len(answers), dtype=object)
        text[:] = [answer.text.encode() for answer in answers]
        return [tensors.from_array("text_output", text)]
    raise UnsupportedError("this output has no form in this protocol; use Infer")


def _tensor_metadata(spec: payload_pb2.TensorSpec) -> oip.ModelMetadataResponse.TensorMetadata:
    return oip.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)
