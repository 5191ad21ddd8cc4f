"""Triton's extensions: configuration, statistics, the repository's index. Nothing is loaded or unloaded."""

from __future__ import annotations

from typing import Any

import grpc

from conformance.checks import expect, expect_same
from conformance.doors import refused
from conformance.oip_grpc.server import OIP_GRPC, UNKNOWN_MODEL, OipServer, implemented
from conformance.oip_grpc.tensors import raw_request
from inference_mesh.oip import open_inference_pb2 as oip

METHODS = {
    "model_configuration": "ModelConfig",
    "statistics": "ModelStatistics",
    "model_repository": "RepositoryIndex",
}
"""The method that an announced extension promises."""
ABSENT = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)


@OIP_GRPC.check
async def announced_extensions_are_there(server: OipServer) -> None:
    """Each extension that ServerMetadata announces has its method."""
    announced = await server.extensions()
    for extension, method in METHODS.items():
        if extension not in announced:
            continue
        call: Any = server.channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        try:
            await call(b"", metadata=server.metadata)
        except grpc.aio.AioRpcError as error:
            expect(
                error.code() is not grpc.StatusCode.UNIMPLEMENTED,
                f"'{extension}' is announced, and {method} is not implemented",
            )


@OIP_GRPC.check
async def configuration_has_the_tensors(server: OipServer) -> None:
    """ModelConfig has the model's name and as many inputs and outputs as its metadata, of the same names."""
    model = await server.tensor_model()
    request = oip.ModelConfigRequest(name=model.name)
    answer = await implemented(server.stub.ModelConfig(request, metadata=server.metadata), "ModelConfig")
    expect_same(answer.config.name, model.name, "config.name")
    for found, wanted in ((answer.config.input, model.inputs), (answer.config.output, model.outputs)):
        expect_same(sorted(one.name for one in found), sorted(one.name for one in wanted), "names of tensors")


@OIP_GRPC.check
async def configuration_of_an_unknown_model(server: OipServer) -> None:
    """ModelConfig of a model that does not exist ends with NOT_FOUND or INVALID_ARGUMENT."""
    known = oip.ModelConfigRequest(name=(await server.tensor_model()).name)
    await implemented(server.stub.ModelConfig(known, metadata=server.metadata), "ModelConfig")
    unknown = oip.ModelConfigRequest(name=UNKNOWN_MODEL)
    await refused(server.stub.ModelConfig(unknown, metadata=server.metadata), *ABSENT)


@OIP_GRPC.check
async def statistics_count_calls(server: OipServer) -> None:
    """ModelStatistics counts one more inference and one more success after a call."""
    model = await server.tensor_model()
    before = await _statistics(server, model.name)
    await server.infer(raw_request(model))
    after = await _statistics(server, model.name)
    expect(after.inference_count > before.inference_count, "inference_count did not grow")
    succeeded = after.inference_stats.success.count - before.inference_stats.success.count
    expect(succeeded >= 1, "inference_stats.success.count did not grow")


@OIP_GRPC.check
async def index_lists_the_model(server: OipServer) -> None:
    """RepositoryIndex lists a model that is served, as READY."""
    name = (await server.tensor_model()).name
    call = server.stub.RepositoryIndex(oip.RepositoryIndexRequest(), metadata=server.metadata)
    index = await implemented(call, "RepositoryIndex")
    states = [one.state for one in index.models if one.name == name]
    expect("READY" in states, f"the states of '{name}' are {states}")


async def _statistics(server: OipServer, name: str) -> oip.ModelStatistics:
    """The model's statistics. Raises NotApplicableError if the server keeps none."""
    call = server.stub.ModelStatistics(oip.ModelStatisticsRequest(name=name), metadata=server.metadata)
    answer = await implemented(call, "ModelStatistics")
    found: list[oip.ModelStatistics] = [one for one in answer.model_stats if one.name == name]
    expect(found, f"there are no statistics of '{name}'")
    return found[0]
