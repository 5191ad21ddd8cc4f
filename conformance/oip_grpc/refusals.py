"""Refusals: a request that cannot be computed ends with a status that says so, and the server goes on."""

from __future__ import annotations

from typing import Any

import grpc

from conformance.checks import NotApplicableError
from conformance.doors import WRONG_KEY, metadata_of, refused
from conformance.oip_grpc.server import OIP_GRPC, UNKNOWN_MODEL, OipServer
from conformance.oip_grpc.tensors import raw_request, typed_request
from inference_mesh.oip import open_inference_pb2 as oip

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND


@OIP_GRPC.check
async def infer_of_an_unknown_model(server: OipServer) -> None:
    """ModelInfer on a model that does not exist ends with NOT_FOUND or INVALID_ARGUMENT."""
    request = oip.ModelInferRequest(model_name=UNKNOWN_MODEL)
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1])
    tensor.contents.fp32_contents.append(1)
    await refused(server.infer(request), NOT_FOUND, INVALID)


@OIP_GRPC.check
async def infer_without_inputs(server: OipServer) -> None:
    """A request without inputs ends with INVALID_ARGUMENT."""
    model = await server.tensor_model()
    await refused(server.infer(oip.ModelInferRequest(model_name=model.name)), INVALID)


@OIP_GRPC.check
async def infer_with_an_unknown_input(server: OipServer) -> None:
    """An input whose name the model does not have ends with INVALID_ARGUMENT."""
    request = raw_request(await server.tensor_model())
    request.inputs[0].name = "conformance_no_such_input"
    await refused(server.infer(request), INVALID)


@OIP_GRPC.check
async def infer_with_another_datatype(server: OipServer) -> None:
    """An input of another datatype than the model's ends with INVALID_ARGUMENT."""
    request = raw_request(await server.tensor_model())
    request.inputs[0].datatype = "FP64" if request.inputs[0].datatype != "FP64" else "INT64"
    await refused(server.infer(request), INVALID)


@OIP_GRPC.check
async def infer_with_too_little_data(server: OipServer) -> None:
    """Raw contents shorter than their shape end with INVALID_ARGUMENT."""
    request = raw_request(await server.tensor_model())
    request.raw_input_contents[0] = request.raw_input_contents[0][:-1]
    await refused(server.infer(request), INVALID)


@OIP_GRPC.check
async def infer_with_a_negative_size(server: OipServer) -> None:
    """A shape with a size below 0 ends with INVALID_ARGUMENT."""
    request = raw_request(await server.tensor_model())
    request.inputs[0].shape[0] = -2
    await refused(server.infer(request), INVALID)


@OIP_GRPC.check
async def infer_with_a_huge_shape(server: OipServer) -> None:
    """A shape whose product no memory holds ends with INVALID_ARGUMENT."""
    request = raw_request(await server.tensor_model())
    request.inputs[0].shape[:] = [2**62, 2**62]
    await refused(server.infer(request), INVALID)


@OIP_GRPC.check
async def infer_with_raw_and_typed_contents(server: OipServer) -> None:
    """A request with both forms of contents ends with INVALID_ARGUMENT."""
    model = await server.tensor_model()
    request = typed_request(model)
    request.raw_input_contents.extend(raw_request(model).raw_input_contents)
    await refused(server.infer(request), INVALID)


@OIP_GRPC.check
async def infer_with_an_unknown_output(server: OipServer) -> None:
    """A requested output that the model does not have ends with INVALID_ARGUMENT or NOT_FOUND."""
    request = raw_request(await server.tensor_model())
    request.outputs.add(name="conformance_no_such_output")
    await refused(server.infer(request), INVALID, NOT_FOUND)


@OIP_GRPC.check
async def infer_with_broken_texts(server: OipServer) -> None:
    """A text said to be longer than its bytes ends with INVALID_ARGUMENT, and the server goes on."""
    model = await server.text_model()
    request = raw_request(model)
    request.raw_input_contents[0] = b"\xff\xff\xff\x7fa"
    await refused(server.infer(request), INVALID)
    await server.infer(raw_request(model))


@OIP_GRPC.check
async def malformed_message(server: OipServer) -> None:
    """Bytes that are no message end the call, and the next one is answered."""
    call: Any = server.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    ended = (INVALID, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    await refused(call(b"\x0a\xff\xff\xff\xff", metadata=server.metadata), *ended)
    await server.stub.ServerMetadata(oip.ServerMetadataRequest(), metadata=server.metadata)


@OIP_GRPC.check
async def missing_key(server: OipServer) -> None:
    """A call without credentials ends with UNAUTHENTICATED."""
    await _refuses(server, ())


@OIP_GRPC.check
async def wrong_key(server: OipServer) -> None:
    """A call with a key that does not exist ends with UNAUTHENTICATED."""
    await _refuses(server, metadata_of(WRONG_KEY))


async def _refuses(server: OipServer, metadata: tuple[tuple[str, str], ...]) -> None:
    if not server.has_key:
        raise NotApplicableError("the run has no API key, so the server may need none; give one by --api-key")
    request = oip.ModelMetadataRequest(name=UNKNOWN_MODEL)
    await refused(server.stub.ModelMetadata(request, metadata=metadata), grpc.StatusCode.UNAUTHENTICATED)
