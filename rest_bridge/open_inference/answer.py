"""Answers of the Open Inference Protocol's gRPC form as JSON and bytes. Pure."""

from __future__ import annotations

from starlette.responses import Response

from inference_mesh import strict_json, tensors
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.v1 import payload_pb2
from rest_bridge.open_inference.binary import HEADER, MEDIA_TYPE
from rest_bridge.open_inference.request import BINARY_SIZE, Wanted

Json = dict[str, object]

OWN_EXTENSIONS = ("binary_tensor_data", "generate")
"""Triton's names of what is spoken by REST alone."""


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


def server_of(metadata: oip.ServerMetadataResponse) -> Json:
    """What the gateway is and speaks, with what this form of the protocol adds."""
    extensions = sorted({*metadata.extensions, *OWN_EXTENSIONS})
    return {"name": metadata.name, "version": metadata.version, "extensions": extensions}


def config_of(config: oip.ModelConfig) -> Json:
    """The configuration of a model; integers are numbers, as Triton writes them."""
    document: Json = {
        "name": config.name,
        "platform": config.platform,
        "backend": config.backend,
        "max_batch_size": config.max_batch_size,
        "input": [_port(port) for port in config.input],
        "output": [_port(port) for port in config.output],
        "parameters": {
            name: {"string_value": value.string_value} for name, value in config.parameters.items()
        },
        "model_transaction_policy": {"decoupled": config.model_transaction_policy.decoupled},
    }
    versions = list(config.version_policy.specific.versions)
    return document | ({"version_policy": {"specific": {"versions": versions}}} if versions else {})


def statistics_of(response: oip.ModelStatisticsResponse) -> Json:
    """The statistics of models. The list of batches is always empty: nobody counts them."""
    return {"model_stats": [_statistics(one) for one in response.model_stats]}


def index_of(index: oip.RepositoryIndexResponse) -> list[Json]:
    """The models of a repository."""
    return [
        {"name": one.name, "version": one.version, "state": one.state, "reason": one.reason}
        for one in index.models
    ]


def _statistics(one: oip.ModelStatistics) -> Json:
    measured = one.inference_stats
    times = {name: getattr(measured, name) for name in measured.DESCRIPTOR.fields_by_name}
    return {
        "name": one.name,
        "version": one.version,
        "last_inference": one.last_inference,
        "inference_count": one.inference_count,
        "execution_count": one.execution_count,
        "inference_stats": {name: {"count": time.count, "ns": time.ns} for name, time in times.items()},
        "batch_stats": [],
    }


def _port(port: oip.ModelInput | oip.ModelOutput) -> Json:
    return {
        "name": port.name,
        "data_type": oip.DataType.Name(port.data_type),
        "dims": list(port.dims),
    }


def _spec(spec: oip.ModelMetadataResponse.TensorMetadata) -> Json:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
