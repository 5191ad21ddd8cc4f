"""Metadata: what the server and its models say of themselves."""

from __future__ import annotations

import grpc

from conformance.checks import expect, expect_same
from conformance.doors import refused
from conformance.oip_grpc.server import OIP_GRPC, UNKNOWN_MODEL, OipServer
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.tensors import DATATYPES

KNOWN = frozenset(DATATYPES) | {"BF16"}


@OIP_GRPC.check
async def server_has_name_and_version(server: OipServer) -> None:
    """ServerMetadata has a name and a version."""
    answer = await server.stub.ServerMetadata(oip.ServerMetadataRequest(), metadata=server.metadata)
    expect(answer.name, "name is empty")
    expect(answer.version, "version is empty")


@OIP_GRPC.check
async def model_describes_its_tensors(server: OipServer) -> None:
    """ModelMetadata has the model's name, its platform and tensors with name, datatype and shape."""
    asked = await server.tensor_model()
    found = await server.described(asked.name)
    expect_same(found.name, asked.name, "name")
    expect(found.platform, "platform is empty")
    for tensor in (*found.inputs, *found.outputs):
        expect(tensor.name, "a tensor has no name")
        expect(tensor.datatype in KNOWN, f"tensor '{tensor.name}' has the datatype {tensor.datatype!r}")
        expect(all(size >= -1 for size in tensor.shape), f"tensor '{tensor.name}': {list(tensor.shape)}")
    expect(found.inputs and found.outputs, "there are no inputs or no outputs")


@OIP_GRPC.check
async def unknown_model_has_no_metadata(server: OipServer) -> None:
    """ModelMetadata of a model that does not exist ends with NOT_FOUND or INVALID_ARGUMENT."""
    await refused(
        server.described(UNKNOWN_MODEL), grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT
    )
