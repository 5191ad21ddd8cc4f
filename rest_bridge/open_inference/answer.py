"""Answers of the Open Inference Protocol's gRPC form as JSON and bytes. Pure."""

from __future__ import annotations

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from starlette.responses import Response

from inference_mesh import strict_json, tensors
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.v1 import payload_pb2
from rest_bridge.open_inference.binary import HEADER, MEDIA_TYPE
from rest_bridge.open_inference.request import BINARY_SIZE, Wanted

Json = dict[str, object]


def answer_of(response: oip.ModelInferResponse, wanted: Wanted) -> Response:
    """The result of an inference; with outputs as bytes after the JSON where they are wanted so."""
    outputs: list[Json] = []
    parts: list[bytes] = []
    for spec, data in zip(response.outputs, response.raw_output_contents, strict=True):
        tensor = payload_pb2.Tensor(name=spec.name, datatype=spec.datatype, shape=spec.shape, data=data)
        if not wanted.as_bytes(spec.name):
            outputs.append(tensors.to_json(tensor))
            continue
        shape = list(spec.shape)
        parameters = {BINARY_SIZE: len(data)}
        outputs.append(
            {"name": spec.name, "datatype": spec.datatype, "shape": shape, "parameters": parameters}
        )
        parts.append(data)
    document: Json = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id:
        document["id"] = response.id
    head = strict_json.dumps(document | {"outputs": outputs})
    if not parts:
        return Response(head, media_type="application/json")
    return Response(b"".join((head, *parts)), media_type=MEDIA_TYPE, headers={HEADER: str(len(head))})


def metadata_of(metadata: oip.ModelMetadataResponse) -> Json:
    """What a model takes and gives."""
    return {
        "name": metadata.name,
        "versions": list(metadata.versions),
        "platform": metadata.platform,
        "inputs": [_spec(spec) for spec in metadata.inputs],
        "outputs": [_spec(spec) for spec in metadata.outputs],
    }


def document_of(message: Message) -> Json:
    """Any other answer, with the names and all the fields of its message."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _spec(spec: oip.ModelMetadataResponse.TensorMetadata) -> Json:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
